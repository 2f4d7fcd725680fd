"""How fast addresses are re-encrypted, against the same UPDATE of the same rows with values that are at hand."""

from __future__ import annotations

import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg.rows import namedtuple_row

from chat_api.encryption import BlindIndex, Cell, FieldCipher
from chat_api.identifiers import uuid7
from chat_api.key_ring import KeyRing
from chat_api.reencryption import Reencryption, Result
from dbkeep import postgresql
from dbkeep.environment import checkout
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

INDEX = BlindIndex(KeyRing({1: secrets.token_bytes(32)}), "users", "email")


class Ready(Reencryption):
    """The same batches and statements without any cryptography: every row gets the value it has."""

    def _new_row(self, row: Any) -> list[Any]:
        return [(row.id, row.email, row.email, row.email_index)]


@contextmanager
def server() -> Iterator[PostgreSQLSettings]:
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        Path(name).chmod(0o711)
        with sandbox.start(Path(name) / "server", fast=False) as settings:
            declared = postgresql.read_declared(checkout())
            postgresql.apply(settings, declared, {user: secrets.token_urlsafe() for user in postgresql.users(declared)})
            yield settings


def connect(settings: PostgreSQLSettings, role: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=str(settings.socket_directory), port=settings.port, user=role, dbname="chat",
        autocommit=True, row_factory=namedtuple_row,
    )  # fmt: skip


def fill(settings: PostgreSQLSettings, cipher: FieldCipher, users: int) -> None:
    columns = "(id, email, email_index, username, password_hash)"
    with connect(settings, "postgres") as connection:
        with connection.cursor().copy(f"COPY chat.users {columns} FROM STDIN") as copy:
            for _ in range(users):
                user = uuid7()
                address = f"{user.hex}@example.org"
                email = cipher.encrypt(address, Cell("users", "email", user))
                copy.write_row((user, email, INDEX.of(address), user.hex, "$argon2id$" + "x" * 87))
        connection.execute("VACUUM ANALYZE chat.users")


def measure(settings: PostgreSQLSettings, kind: type[Reencryption], cipher: FieldCipher) -> float:
    """Return how many values a second one pass over all rows writes."""
    with connect(settings, "postgres") as connection:
        connection.execute("VACUUM chat.users")
        connection.execute("CHECKPOINT")
    with connect(settings, "app_keys") as connection:
        work, result = kind(connection, cipher, INDEX), Result()
        started = time.monotonic()
        for batch in work._batches():
            work._rewrite(batch, result)
        return result.rewritten / (time.monotonic() - started)


@click.command()
@click.option("--users", default=20_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(users: int, rounds: int, as_json: bool) -> None:
    """Measure how many values a second are written with new keys and with none."""
    keys = {version: secrets.token_bytes(32) for version in range(1, rounds + 2)}
    rates: dict[str, list[float]] = {"update": [], "reencrypt": []}
    with server() as settings:
        fill(settings, FieldCipher(KeyRing({1: keys[1]})), users)
        for number in range(1, rounds + 1):
            cipher = FieldCipher(KeyRing({version: keys[version] for version in (number, number + 1)}))
            # Both see the same rows: all of the older version, the plain UPDATE first, which leaves them so.
            rates["update"].append(measure(settings, Ready, cipher))
            rates["reencrypt"].append(measure(settings, Reencryption, cipher))
    medians = {name: round(statistics.median(found)) for name, found in rates.items()}
    ratio = statistics.median(b / a for a, b in zip(rates["update"], rates["reencrypt"], strict=True))
    if as_json:
        click.echo(json.dumps({"users": users, "values_per_second": medians, "reencrypt_to_update": ratio}, indent=2))
        return
    click.echo(f"{users} users, median of {rounds} rounds")
    click.echo(f"re-encryption {medians['reencrypt']} values/s = {ratio:.2f} x the same UPDATE with values at hand")


if __name__ == "__main__":
    main()
