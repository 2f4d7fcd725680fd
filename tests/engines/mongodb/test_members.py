"""One member becomes three and one again, by plan and apply, while somebody writes and loses nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from dbkeep import mongodb as engine
from dbkeep.checks.facts.mongodb_replica_set import describe_replica_set
from dbkeep.errors import DbkeepError
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import connect
from dbkeep.mongodb.members import wait_until_it_serves
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError, Change, Risk
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from .replicas import Replicas, Writer, lost, replicas

STEP = "replica set member"


@pytest.fixture
def servers(security: sandbox.Security, tmp_path: Path) -> Iterator[Replicas]:
    with replicas(tmp_path, security) as started:
        yield started


def test_one_member_becomes_three_and_two_while_somebody_writes(
    servers: Replicas, declared: Declared, passwords: dict[str, str]
) -> None:
    here, alone, three = servers.through(0), named(declared, servers, 0), named(declared, servers, 0, 1, 2)
    second, third = servers.named(1, 2)
    engine.apply(here, alone, passwords)
    votes: list[list[int]] = []
    with Writer(here) as writer:
        wait_for(writer, 20)
        plan = steps(engine.plan(here, three, passwords))
        assert [(target, risk) for target, risk in plan] == [(host, Risk.SAFE) for host in (second, third) * 2]
        made = engine.apply(here, three, passwords, on_change=lambda _: votes.append(votes_of(here)))
        assert steps(made) == plan
        wait_for(writer, 20)
        step_down(here)
        wait_for(writer, 20)
        killed = kill_the_primary(here)
        wait_for(writer, 20)
    assert writer.refused == []
    assert votes == [[1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    for host in three.members:
        if host != killed:
            assert wait_until_nothing_is_lost(here, host, writer) == []

    # What the controls are told of it by a member that is left.
    told = []
    for number in (number for number in range(3) if three.members[number] != killed):
        with connect(servers.through(number), direct=True) as member:
            told.append(describe_replica_set(member))
    assert sorted(found["writable"] for found in told) == [False, True]
    for found in told:
        (down,) = (entry for entry in found["members"] if not entry["answers"])
        assert (down["host"], down["votes"], down["behind_seconds"]) == (killed, 1, None)

    # The plan is the same whichever host's agent makes it, also where the server is down.
    for number in range(3):
        assert steps(engine.plan(servers.through(number), three, passwords)) == []

    # The one that is down leaves the inventory.
    left = three.model_copy(update={"members": tuple(host for host in three.members if host != killed)})
    settings = servers.through(three.members.index(left.members[0]))
    (removal,) = (change for change in engine.plan(settings, left, passwords) if change.kind == STEP)
    assert (removal.target, removal.risk, removal.waits_for) == (killed, Risk.DESTRUCTIVE, None)
    assert steps(engine.apply(settings, left, passwords)) == []
    engine.apply(settings, left, passwords, allow_destructive=True)
    assert votes_of(settings) == [1, 1]
    assert list(engine.plan(settings, left, passwords)) == []


def test_the_primary_can_leave_and_a_half_made_member_is_completed(
    servers: Replicas, declared: Declared, passwords: dict[str, str]
) -> None:
    here, both, second_only = servers.through(0), named(declared, servers, 0, 1), named(declared, servers, 1)
    first, second = both.members

    def stop(change: Change) -> None:
        if change.kind == STEP:
            raise KeyboardInterrupt

    engine.apply(here, named(declared, servers, 0), passwords)
    with pytest.raises(KeyboardInterrupt):
        engine.apply(here, both, passwords, on_change=stop)
    assert votes_of(here) == [1, 0]
    assert steps(engine.apply(here, both, passwords)) == [(second, Risk.SAFE)]
    assert votes_of(here) == [1, 1]

    there = servers.through(1)
    assert steps(engine.apply(there, second_only, passwords, allow_destructive=True)) == [(first, Risk.DESTRUCTIVE)]
    assert votes_of(there) == [1]
    assert list(engine.plan(there, second_only, passwords)) == []


def test_a_member_that_cannot_join_is_one_line_and_leaves_the_set_as_it_was(
    servers: Replicas,
    declared: Declared,
    passwords: dict[str, str],
    security: sandbox.Security,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine._members, "SILENT_SECONDS", 10)
    here, alone, both = servers.through(0), named(declared, servers, 0), named(declared, servers, 0, 1)
    engine.apply(here, alone, passwords)
    # A set of its own, of the same name: the agent must not take it for ours.
    bootstrap.apply(servers.servers[1], servers.named(1), security.keyfile)
    with pytest.raises(ApplyError) as error:
        engine.apply(here, both, passwords)
    assert str(error.value).startswith(f"mongodb {STEP} {both.members[1]}: the primary does not hear of it: ")
    assert "replica set IDs do not match" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(engine.plan(here, alone, passwords)) == []


def test_a_server_that_was_started_is_waited_for(
    empty: MongoDBSettings, security: sandbox.Security, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_it_serves(empty)
    with sandbox.start(tmp_path, security=security, initiate=False) as bare:
        wait_until_it_serves(bare)
    monkeypatch.setattr(engine._members, "START_SECONDS", 1)
    with pytest.raises(DbkeepError, match="started and is neither primary nor secondary after 1 s; read /var/log"):
        wait_until_it_serves(bare)


def named(declared: Declared, servers: Replicas, *numbers: int) -> Declared:
    """Return the declared state where the inventory names these servers."""
    return declared.model_copy(update={"members": servers.named(*numbers)})


def steps(changes: Iterable[Change]) -> list[tuple[str, Risk]]:
    return [(change.target, change.risk) for change in changes if change.kind == STEP]


def votes_of(settings: MongoDBSettings) -> list[int]:
    with connect(settings) as connection:
        config = connection.admin.command("replSetGetConfig")["config"]
    assert all(member["priority"] == member["votes"] for member in config["members"])
    return [member["votes"] for member in config["members"]]


def wait_for(writer: Writer, number: int) -> None:
    """Return when that many more writes are acknowledged."""
    wanted, deadline = len(writer.acknowledged) + number, time.monotonic() + 60
    while len(writer.acknowledged) < wanted:
        assert time.monotonic() < deadline, writer.refused
        time.sleep(0.02)


def step_down(settings: MongoDBSettings) -> None:
    with connect(settings) as connection:
        before = connection.admin.command("hello")["me"]
        connection.admin.command("replSetStepDown", 30)
    bootstrap.wait_for_primary(settings)
    with connect(settings) as connection:
        assert connection.admin.command("hello")["me"] != before


def kill_the_primary(settings: MongoDBSettings) -> str:
    with connect(settings) as connection:
        name = str(connection.admin.command("hello")["me"])
        os.kill(connection.admin.command("serverStatus")["pid"], signal.SIGKILL)
    return name


def wait_until_nothing_is_lost(settings: MongoDBSettings, member: str, writer: Writer) -> list[object]:
    """A member may be a moment behind the majority."""
    deadline = time.monotonic() + 30
    while (missing := lost(settings, member, writer.acknowledged)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return list(missing)
