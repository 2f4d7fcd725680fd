"""Migrations on real servers: in batches, resumed after a kill, one at a time, at the pace of the secondaries."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure

from dbkeep import mongodb as engine
from dbkeep.errors import UsageError
from dbkeep.mongodb import migrations
from dbkeep.mongodb.batches import Pace
from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.connect import client as client_of
from dbkeep.mongodb.migration_lock import LOCK, RECORDS
from dbkeep.mongodb.models import Declared, Migration
from dbkeep.plan import ApplyError, Risk
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from .test_bad_input import initiate
from .test_documents import GOOD

FIRST = "0001_fill_last_message_at"
# Changes each document by one, so that one that was changed twice would show.
COUNT_UP = '''
"""Every thing has counted to one."""

def up(documents):
    documents.update("things", {"counted": {"$exists": False}}, [{"$set": {"n": {"$add": ["$n", 1]}, "counted": True}}])

def down(documents):
    documents.update("things", {"counted": True}, [{"$set": {"n": {"$add": ["$n", -1]}}}, {"$unset": "counted"}])

def verify(documents):
    return documents.count("things", {"counted": {"$exists": False}})
'''


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[MongoDBSettings]:
    with sandbox.start(folder / "migrated") as settings:
        yield settings


@pytest.fixture
def client(running: MongoDBSettings) -> Iterator[Client]:
    with connect(running) as connection:
        connection.drop_database("chat")
        yield connection


def migration(name: str = "0001_count_up", source: str = COUNT_UP) -> Migration:
    return Migration(id=name, path=f"mongo/migrations/{name}.py", summary="Count.", source=source)


def with_migrations(declared: Declared, *which: Migration) -> Declared:
    return declared.model_copy(update={"migrations": which})


def fill(client: Client, count: int) -> None:
    client["chat"]["things"].insert_many([{"n": 0} for _ in range(count)])


def states(settings: MongoDBSettings, declared: Declared) -> dict[str, str]:
    return {entry.id: entry.state for entry in migrations.status(settings, declared)}


def test_the_first_migration_makes_way_for_the_validator(
    running: MongoDBSettings, client: Client, declared: Declared, passwords: dict[str, str]
) -> None:
    assert next(found.id for found in declared.migrations) == FIRST
    old = {name: value for name, value in GOOD["conversations"].items() if name != "last_message_at"}
    silent = {name: value for name, value in old.items() if name != "last_message_preview"}
    client["chat"]["conversations"].insert_many([copy.deepcopy(silent) for _ in range(5)])
    with pytest.raises(ApplyError, match=r"chat\.conversations: 5 documents break the declared validator"):
        engine.apply(running, declared, passwords)

    assert states(running, declared) == {FIRST: "pending"}
    (change,) = migrations.up(running, declared, to=FIRST)
    assert (change.kind, change.target, change.risk) == ("migration", FIRST, Risk.REWRITING)
    assert states(running, declared) == {FIRST: "applied"}
    assert {found["last_message_at"] for found in client["chat"]["conversations"].find()} == {
        silent["created_at"].replace(tzinfo=None)
    }
    engine.apply(running, declared, passwords)
    assert list(engine.plan(running, declared, passwords)) == []
    assert migrations.up(running, declared) == ()

    # Back again: first with the validator that forbids it, then without.
    assert migrations.down(running, declared)[0] == ()
    with pytest.raises(ApplyError, match=r"the validator refuses what it makes of _id [0-9a-f]{24}; apply the one"):
        migrations.down(running, declared, allow_destructive=True)
    client["chat"].command({"collMod": "conversations", "validator": {}})
    (taken,), held = migrations.down(running, declared, allow_destructive=True)
    assert (taken.target, taken.risk, held) == (FIRST, Risk.DESTRUCTIVE, ())
    assert client["chat"]["conversations"].count_documents({"last_message_at": {"$exists": True}}) == 0
    assert states(running, declared) == {FIRST: "pending"}


def test_batches_are_reported_and_documents_that_come_meanwhile_are_found(
    running: MongoDBSettings, client: Client, declared: Declared
) -> None:
    fill(client, 25)
    late = ObjectId("0" * 24)
    said: list[str] = []

    def report(line: str) -> None:
        if not said:
            client["chat"]["things"].insert_one({"_id": late, "n": 0})
        said.append(line)

    migrations.up(running, with_migrations(declared, migration()), report=report, pace=Pace(batch=10))
    assert said == [
        "0001_count_up: things: 10 of 25",
        "0001_count_up: things: 20 of 25",
        "0001_count_up: things: 25 of 25",
        "0001_count_up: things: 26 of 26",
    ]
    assert client["chat"]["things"].distinct("n") == [1]


KILLED = """
import os, signal, sys
from dbkeep.mongodb import migration_lock, migrations
from dbkeep.mongodb.batches import Pace
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
    migrations.down(*arguments, allow_destructive=True, report=report, pace=Pace(batch=10))
else:
    migrations.up(*arguments, report=report, pace=Pace(batch=10))
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
    migrations.up(running, mine, report=said.append, pace=Pace(batch=10))
    assert said[0].startswith("waits up to 30 s for the lock of process ")
    assert said[1] == "0001_count_up: things: 50 of 95"
    assert things.distinct("n") == [1]

    killed(running, mine, batches=3, word="down")
    assert things.count_documents({"n": 0}) == 30
    assert states(running, mine) == {"0001_count_up": "applied"}
    with pytest.raises(ApplyError, match="taking it back was interrupted: run `migrate down` again first"):
        migrations.up(running, mine)
    migrations.down(running, mine, allow_destructive=True)
    assert things.distinct("n") == [0]
    assert states(running, mine) == {"0001_count_up": "pending"}
    # A new run is a new run, not what is left of the one before.
    migrations.up(running, mine)
    assert things.distinct("n") == [1]


def test_two_cannot_migrate_at_once(running: MongoDBSettings, client: Client, declared: Declared) -> None:
    fill(client, 40)
    mine, refused = with_migrations(declared, migration()), threading.Event()

    def slowly(_: str) -> None:
        refused.wait(0.3)

    first = threading.Thread(
        target=migrations.up, args=(running, mine), kwargs={"report": slowly, "pace": Pace(batch=1)}
    )
    first.start()
    try:
        while not client["chat"]["things"].count_documents({"n": 1}):
            assert first.is_alive()
            time.sleep(0.02)
        with pytest.raises(UsageError, match=r"^process \d+ on \S+ is migrating this database: wait for it"):
            migrations.up(running, mine)
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
        migrations.up(running, with_migrations(declared, migration()), report=steal, pace=Pace(batch=10))
    assert client["chat"]["things"].count_documents({"n": 1}) == 10
    assert client["chat"][RECORDS].count_documents({"_id": LOCK}) == 1


BAD: dict[str, tuple[str, str]] = {
    "it fails": (
        COUNT_UP.replace("documents.update", "documents.updated", 1),
        "mongo/migrations/0001_count_up.py:5: AttributeError: 'Batches' object has no attribute 'updated'",
    ),
    "it does not leave what it promises": (
        COUNT_UP.replace('count("things", {"counted"', 'count("things", {"missing"'),
        "verify finds 12 documents that are not as it leaves them; run it again",
    ),
    "what it changed still matches": (
        COUNT_UP.replace(', "counted": True}', "}"),
        "still matches after its change: see 0001_count_up",
    ),
    "the server refuses it": (
        COUNT_UP.replace('"$add": ["$n", 1]', '"$ad": 1'),
        "Unrecognized expression '$ad' (error, code 168)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_migration_that_cannot_end_is_one_line_and_is_not_recorded(
    case: str, running: MongoDBSettings, client: Client, declared: Declared
) -> None:
    source, line = BAD[case]
    fill(client, 12)
    with pytest.raises(ApplyError) as error:
        migrations.up(running, with_migrations(declared, migration(source=source)))
    assert str(error.value).startswith("mongodb migration 0001_count_up: mongo/migrations/0001_count_up.py:")
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    good = with_migrations(declared, migration())
    assert states(running, good) == {"0001_count_up": "pending"}
    if "promises" not in case:
        assert client["chat"]["things"].distinct("n") == [0]
        migrations.up(running, good)
        assert client["chat"]["things"].distinct("n") == [1]


def test_a_file_that_changed_or_went_after_it_was_applied_is_refused(
    running: MongoDBSettings, client: Client, declared: Declared
) -> None:
    fill(client, 1)
    second = migration("0002_again", COUNT_UP.replace("counted", "recounted"))
    migrations.up(running, with_migrations(declared, migration()))
    edited = with_migrations(declared, migration(source=COUNT_UP + "# later\n"), second)
    missing = with_migrations(declared, second)
    for wrong, state in ((edited, "edited"), (missing, "missing")):
        assert states(running, wrong) == {"0001_count_up": state, "0002_again": "pending"}
        with pytest.raises(ApplyError, match=f"migration 0001_count_up: it is {state} since it was applied"):
            migrations.up(running, wrong)
        with pytest.raises(UsageError, match=f"migration 0001_count_up is {state}: use the checkout"):
            migrations.down(running, wrong)


def test_up_and_down_to_a_migration(running: MongoDBSettings, client: Client, declared: Declared) -> None:
    fill(client, 3)
    names = ("0001_a", "0002_b", "0003_c")
    three = with_migrations(declared, *(migration(name, COUNT_UP.replace("counted", name[-1])) for name in names))
    assert [change.target for change in migrations.up(running, three, to="0002_b")] == ["0001_a", "0002_b"]
    assert list(states(running, three).values()) == ["applied", "applied", "pending"]
    migrations.up(running, three)
    (held, _), nothing = (
        migrations.down(running, three, to="0001_a")[1],
        migrations.down(running, three, to="0001_a")[0],
    )
    assert (held.target, nothing) == ("0003_c", ())
    taken, _ = migrations.down(running, three, to="0001_a", allow_destructive=True)
    assert [change.target for change in taken] == ["0003_c", "0002_b"]
    assert client["chat"]["things"].distinct("n") == [1]
    for wrong in ("0009_x", "0003_c"):
        with pytest.raises(UsageError, match=wrong):
            migrations.down(running, three, to=wrong)


def test_the_records_are_no_drift_and_in_the_database_that_is_backed_up(
    running: MongoDBSettings, client: Client, declared: Declared, passwords: dict[str, str]
) -> None:
    migrations.up(running, declared)
    engine.apply(running, declared, passwords)
    assert RECORDS in client["chat"].list_collection_names()
    assert list(engine.plan(running, declared, passwords)) == []


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
    with ExitStack() as stack:
        members = [stack.enter_context(sandbox.start(folder / f"lag-{number}", initiate=False)) for number in range(3)]
        initiate(members)
        with connect(members[0]) as connection:
            fill(connection, 400)
            (behind,) = [
                member
                for member in connection.admin.command("replSetGetStatus")["members"]
                if member["stateStr"] == "SECONDARY"
            ][:1]
        slow = next(member for member in members if behind["name"].endswith(f":{member.port}"))
        with client_of(slow, direct=True) as secondary:
            hold_back(secondary)
            pace = Pace(batch=10, lag_seconds=1)
            run = threading.Thread(
                target=migrations.up, args=(members[0], mine), kwargs={"report": said.append, "pace": pace}
            )
            run.start()
            try:
                deadline = time.monotonic() + 60
                while not (waiting := [line for line in said if "waits for" in line]):
                    assert run.is_alive()
                    assert time.monotonic() < deadline, said
                    time.sleep(0.1)
            finally:
                secondary["admin"].command("fsyncUnlock")
                run.join()
        assert waiting[0].startswith(f"0001_count_up: waits for {behind['name']}, which is ")
        assert said[-1] == "0001_count_up: things: 400 of 400"
