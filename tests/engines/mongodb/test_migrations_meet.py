"""Migrations that are killed, that meet another one, and that meet a secondary that is behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo.errors import OperationFailure

from dbkeep.errors import UsageError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.connect import client as client_of
from dbkeep.mongodb.migrations import history
from dbkeep.mongodb.migrations.batches import Pace
from dbkeep.mongodb.migrations.lock import LOCK, RECORDS
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from .counting import fill, migration, states, with_migrations
from .replicas import replica_set


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[MongoDBSettings]:
    with sandbox.start(folder / "migrated") as settings:
        yield settings


@pytest.fixture
def client(running: MongoDBSettings) -> Iterator[Client]:
    with connect(running) as connection:
        connection.drop_database("chat")
        yield connection


KILLED = """
import os, signal, sys
from dbkeep.mongodb.migrations import history
from dbkeep.mongodb.migrations import lock as migration_lock
from dbkeep.mongodb.migrations.batches import Pace
from dbkeep.mongodb.models import Declared
from dbkeep.settings import MongoDBSettings
migration_lock.LEASE_SECONDS = 2
settings, declared = sys.argv[1:3]
batches, back = int(sys.argv[3]), sys.argv[4] == "down"
reports = []
def report(line):
    reports.append(line)
    if len(reports) == batches:
        os.kill(os.getpid(), signal.SIGKILL)
arguments = (MongoDBSettings.model_validate_json(settings), Declared.model_validate_json(declared))
if back:
    history.down(*arguments, allow_destructive=True, report=report, pace=Pace(batch=10))
else:
    history.up(*arguments, report=report, pace=Pace(batch=10))
"""


def killed(settings: MongoDBSettings, declared: Declared, *, batches: int, word: str) -> None:
    arguments = [settings.model_dump_json(), declared.model_dump_json(), str(batches), word]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == -9


def test_a_killed_run_goes_on_where_it_was_and_changes_no_document_twice(
    running: MongoDBSettings, client: Client, declared: Declared
) -> None:
    fill(client, 95)
    mine = with_migrations(declared, migration())
    things = client["chat"]["things"]
    killed(running, mine, batches=4, word="up")
    assert things.count_documents({"n": 1}) == 40
    assert states(running, mine) == {"0001_count_up": "pending"}
    said: list[str] = []
    history.up(running, mine, report=said.append, pace=Pace(batch=10))
    assert said[0].startswith("waits up to 30 s for the lock of process ")
    assert said[1] == "0001_count_up: things: 50 of 95"
    assert things.distinct("n") == [1]

    killed(running, mine, batches=3, word="down")
    assert things.count_documents({"n": 0}) == 30
    assert states(running, mine) == {"0001_count_up": "applied"}
    with pytest.raises(ApplyError, match="taking it back was interrupted: run `dbkeep migrate down` again first"):
        history.up(running, mine)
    history.down(running, mine, allow_destructive=True)
    assert things.distinct("n") == [0]
    assert states(running, mine) == {"0001_count_up": "pending"}
    # A new run is a new run, not what is left of the one before.
    history.up(running, mine)
    assert things.distinct("n") == [1]


def test_two_cannot_migrate_at_once(running: MongoDBSettings, client: Client, declared: Declared) -> None:
    fill(client, 40)
    mine, refused = with_migrations(declared, migration()), threading.Event()

    def slowly(_: str) -> None:
        refused.wait(0.3)

    first = threading.Thread(target=history.up, args=(running, mine), kwargs={"report": slowly, "pace": Pace(batch=1)})
    first.start()
    try:
        while not client["chat"]["things"].count_documents({"n": 1}):
            assert first.is_alive()
            time.sleep(0.02)
        with pytest.raises(UsageError, match=r"^process \d+ on \S+ is migrating this database: wait for it"):
            history.up(running, mine)
    finally:
        refused.set()
        first.join()
    assert client["chat"]["things"].distinct("n") == [1]
    assert states(running, mine) == {"0001_count_up": "applied"}


def test_one_that_lost_its_lock_writes_nothing_more(
    running: MongoDBSettings, client: Client, declared: Declared
) -> None:
    fill(client, 30)

    def steal(_: str) -> None:
        client["chat"][RECORDS].update_one({"_id": LOCK}, {"$set": {"owner": "another"}})

    with pytest.raises(ApplyError, match="lost the lock: another migrator took over"):
        history.up(running, with_migrations(declared, migration()), report=steal, pace=Pace(batch=10))
    assert client["chat"]["things"].count_documents({"n": 1}) == 10
    assert client["chat"][RECORDS].count_documents({"_id": LOCK}) == 1


def secondaries(connection: Client) -> list[str]:
    """Return the two secondaries once both follow the primary."""
    deadline = time.monotonic() + 60
    while True:
        members = connection.admin.command("replSetGetStatus")["members"]
        found = [str(member["name"]) for member in members if member["stateStr"] == "SECONDARY"]
        if len(found) == 2:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.1)


def hold_back(secondary: Client) -> None:
    """Let a secondary apply nothing, as soon as it has what it needs for a checkpoint."""
    deadline = time.monotonic() + 30
    while True:
        try:
            secondary["admin"].command("fsync", lock=True)
            return
        except OperationFailure:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_it_waits_for_a_secondary_that_is_behind(folder: Path, declared: Declared) -> None:
    said: list[str] = []
    mine = with_migrations(declared, migration())
    with replica_set(folder / "lag", miss_primary_ms=60_000) as members:
        with connect(members[0]) as connection:
            fill(connection, 1000)
            behind = secondaries(connection)[0]
        slow = next(member for member in members if behind.endswith(f":{member.port}"))
        with client_of(slow, direct=True) as secondary:
            hold_back(secondary)
            pace = Pace(batch=1, lag_seconds=1)
            run = threading.Thread(
                target=history.up, args=(members[0], mine), kwargs={"report": said.append, "pace": pace}
            )
            run.start()
            try:
                deadline = time.monotonic() + 60
                while not any(line.startswith(f"0001_count_up: waits for {behind}, which is ") for line in said):
                    assert run.is_alive()
                    assert time.monotonic() < deadline, said
                    time.sleep(0.1)
            finally:
                secondary["admin"].command("fsyncUnlock")
                run.join()
        assert said[-1] == "0001_count_up: things: 1000 of 1000"
