"""The worst day: the host is gone, and a fresh one goes back to a chosen second from store and escrow alone."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest
import zstandard

from dbkeep.environment import Environment, checkout, read_environment
from dbkeep.lab.lab import define_lab
from dbkeep.sample import open_api
from dbkeep.sandbox import s3

from .conftest import dbkeep
from .declared_stores import bucket, declare
from .test_application import Person
from .test_drift import playbook

pytestmark = pytest.mark.long

NAME = "disaster"
SECONDS = 20
SHIPPED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the API has acknowledged, and when it did."""

    number: int
    at: datetime


@pytest.fixture
def lab() -> Iterator[str]:
    """A provisioned host with sample data; gives the address of this machine to it."""
    try:
        done = dbkeep("up", "--name", NAME, "--json", timeout=1500)
        assert done.status == 0, done.err
        yield str(define_lab(NAME, hosts=1, release="bookworm").gateway)
    finally:
        dbkeep("down", "--purge", "--name", NAME)


def test_a_fresh_host_goes_back_to_a_chosen_second(lab: str, tmp_path: Path) -> None:
    operator = pyrage.x25519.Identity.generate()
    identity = tmp_path / "operator.key"
    identity.write_text(f"{operator}\n", encoding="utf-8")
    identity.chmod(0o600)
    with s3.locking(tmp_path / "store", address=lab) as server:
        declare(NAME, [bucket(server, "offsite")], operators=[str(operator.to_public())])
        prepared = dbkeep("backup", "stores", "-e", NAME, "--prepare", "--json")
        assert prepared.status == 0, prepared.out + prepared.err
        run = dbkeep("backup", "run", "-e", NAME, "--json")
        assert run.status == 0, run.err
        escrow = tmp_path / "escrow.age"
        assert dbkeep("backup", "escrow", str(escrow), "-e", NAME).status == 0
        person, conversation, sent = write(read_environment(NAME))
        chosen = sent[len(sent) // 2].at.replace(microsecond=0) + timedelta(seconds=1)
        time.sleep(SHIPPED_SECONDS)

        assert dbkeep("down", "--purge", "--name", NAME).status == 0
        assert not (checkout() / "inventory" / NAME).exists()

        open_escrow(escrow, operator)
        assert dbkeep("lab", "up", NAME).status == 0
        done = playbook(NAME)
        assert done.returncode == 0, done.stdout + done.stderr
        restored = dbkeep(
            *("restore", "-e", NAME, "--store", "offsite", "--to", chosen.strftime("%Y-%m-%dT%H:%M:%SZ")),
            *("--identity-file", str(identity), "--yes", "--json"),
        )
        assert restored.status == 0, restored.out + restored.err
        applied = dbkeep("apply", "-e", NAME)
        assert applied.status == 0, applied.out + applied.err
        numbers = read(read_environment(NAME), person, conversation)
        expected = {one.number for one in sent if one.at < chosen - timedelta(seconds=1)}
        assert expected <= numbers
        assert not numbers & {one.number for one in sent if one.at > chosen + timedelta(seconds=1)}
        # What is left to do is what the restore says: the logs begin anew.
        for command in (("backup", "run"), ("backup", "mark"), ("drill", "--store", "offsite")):
            ended = dbkeep(*command, "-e", NAME)
            assert ended.status == 0, ended.out + ended.err
        checked = dbkeep("check", "-e", NAME)
        assert checked.status == 0, checked.out + checked.err
        for engine in ("postgresql", "mongodb", "redis"):
            proved = dbkeep("prove", engine, "-e", NAME)
            assert proved.status == 0, proved.out + proved.err


def write(environment: Environment) -> tuple[Person, str, list[Sent]]:
    """Let a user send numbered messages for a while; return him, the conversation and what was acknowledged."""
    with open_api(environment) as api:
        person, other = Person(api, "alice"), Person(api, "bob")
        made = person.call("POST", "/conversations", {"type": "private", "participants": [other.id]})
        conversation = str(made.json()["id"])
        sent: list[Sent] = []
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            answer = person.call(
                "PUT", f"/conversations/{conversation}/messages/{uuid.uuid4()}", {"content": f"number {len(sent)}"}
            )
            assert answer.status_code == 201, answer.text
            sent.append(Sent(len(sent), datetime.now(UTC)))
            time.sleep(0.5)
    return person, conversation, sent


def read(environment: Environment, person: Person, conversation: str) -> set[int]:
    """Return the numbers of the messages that the user reads now, with the session of before."""
    with open_api(environment) as api:
        found = api.get(f"/conversations/{conversation}/messages?limit=50", headers=person.headers)
    assert found.status_code == 200, found.text
    return {int(message["content"].removeprefix("number ")) for message in found.json()["items"]}


def open_escrow(escrow: Path, operator: Any) -> None:
    """Bring the inventory back as the recovery kit says."""
    packed = pyrage.decrypt(escrow.read_bytes(), [operator])
    content = zstandard.ZstdDecompressor().stream_reader(packed).read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.startswith("escrow/inventory/"):
                target = checkout() / member.name.removeprefix("escrow/")
                target.parent.mkdir(parents=True, exist_ok=True)
                stream = archive.extractfile(member)
                assert stream is not None
                target.write_bytes(stream.read())
                target.chmod(0o600)
