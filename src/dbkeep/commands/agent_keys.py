"""`dbkeep agent keys`: work on encrypted fields on a host of the API, called by the controller.

Keys and password come with the request, are used in memory and go nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psycopg
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from chat_api.configuration import ConfigurationError, read_configuration
from chat_api.encryption import BlindIndex, FieldCipher
from chat_api.key_ring import KeyRing
from chat_api.reencryption import Reencryption, ReencryptionError, connect
from dbkeep.commands.exchange import answer, read_request
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql.connect import one_line


class KeysRequest(BaseModel):
    """`field_keys` and `blind_index_keys` are the text of a KeyRing with every key, retired ones too."""

    model_config = ConfigDict(extra="forbid")

    password: SecretStr
    field_keys: SecretStr
    blind_index_keys: SecretStr
    every: bool = False
    rate: float | None = Field(default=None, gt=0)
    environment_file: Path = Path("/etc/chat_api/chat_api.env")


@click.group("keys")
def agent_keys_group() -> None:
    """Count and re-encrypt the encrypted fields."""


@agent_keys_group.command("survey")
def survey_command() -> None:
    """Answer with the number of values of each key version."""
    with _work(_request()) as work:
        answer(dataclasses.asdict(work.survey()))


@agent_keys_group.command("reencrypt")
def reencrypt_command() -> None:
    """Encrypt the values of older versions again; a progress line is `DONE/TOTAL values`."""
    request = _request()
    with _work(request) as work:
        answer(dataclasses.asdict(work.run(rate=request.rate, on_progress=_report)))


def _report(done: int, total: int) -> None:
    click.echo(f"{done}/{total} values", err=True)


def _request() -> KeysRequest:
    try:
        return KeysRequest.model_validate(read_request())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise UsageError(f"the request's {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@contextmanager
def _work(request: KeysRequest) -> Iterator[Reencryption]:
    try:
        cipher = FieldCipher(KeyRing.parse(request.field_keys.get_secret_value()))
        index = BlindIndex(KeyRing.parse(request.blind_index_keys.get_secret_value()), "users", "email")
        configuration = read_configuration(_variables(request.environment_file))
    except (ValueError, ConfigurationError) as error:
        raise UsageError(str(error)) from None
    try:
        connection = connect(configuration, request.password.get_secret_value())
    except psycopg.OperationalError as error:
        raise UsageError(
            f"cannot connect to PostgreSQL as app_keys: {one_line(error)}; run playbooks/site.yml"
        ) from None
    try:
        with connection:
            yield Reencryption(connection, cipher, index, every=request.every)
    except (psycopg.Error, ReencryptionError) as error:
        reason = one_line(error) if isinstance(error, psycopg.Error) else str(error)
        raise DbkeepError(f"{reason}; every value can be read, and the same command goes on") from None


def _variables(path: Path) -> dict[str, Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; run playbooks/site.yml") from None
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}
