"""The worst day: the host is gone, and a fresh one goes back to a chosen second from store and escrow alone."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbkeep.environment import Environment, read_environment
from dbkeep.sample import load_sample, open_api
from dbkeep.sandbox import s3

from .lost_host import STORE, build_anew, destroy, protect, provisioned, succeed
from .test_application import Person

pytestmark = pytest.mark.long

NAME = "disaster"
SECONDS = 20
SHIPPED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the API has acknowledged, and when it did."""

    number: int
    at: datetime


def test_a_fresh_host_goes_back_to_a_chosen_second(tmp_path: Path) -> None:
    with provisioned(NAME) as lab, s3.locking(tmp_path / "store", address=lab.gateway) as server:
        load_sample(read_environment(NAME))
        kept = protect(NAME, server, tmp_path)
        person, conversation, sent = write(read_environment(NAME))
        chosen = sent[len(sent) // 2].at.replace(microsecond=0) + timedelta(seconds=1)
        time.sleep(SHIPPED_SECONDS)

        destroy(NAME)
        build_anew(NAME, kept)
        moment = chosen.strftime("%Y-%m-%dT%H:%M:%SZ")
        identity = ("--identity-file", str(kept.identity))
        succeed("restore", "-e", NAME, "--store", STORE, "--to", moment, *identity, "--yes", "--json")
        succeed("apply", "-e", NAME)
        numbers = read(read_environment(NAME), person, conversation)
        expected = {one.number for one in sent if one.at < chosen - timedelta(seconds=1)}
        assert expected <= numbers
        assert not numbers & {one.number for one in sent if one.at > chosen + timedelta(seconds=1)}
        # What is left to do is what the restore says: the logs begin anew.
        for command in (("backup", "run"), ("backup", "mark"), ("drill", "--store", STORE)):
            succeed(*command, "-e", NAME)
        succeed("check", "-e", NAME)
        for engine in ("postgresql", "mongodb", "redis"):
            succeed("prove", engine, "-e", NAME)


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
