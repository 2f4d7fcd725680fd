"""Migrations on real servers: in batches, resumed after a kill, one at a time, at the pace of the secondaries."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from bson import ObjectId

from dbkeep import mongodb as engine
from dbkeep.errors import UsageError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.migrations import history
from dbkeep.mongodb.migrations.batches import Pace
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError, Risk
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from .counting import COUNT_UP, fill, migration, states, with_migrations
from .test_documents import GOOD

FIRST = "0001_fill_last_message_at"


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[MongoDBSettings]:
    with sandbox.start(folder / "migrated") as settings:
        yield settings


@pytest.fixture
def client(running: MongoDBSettings) -> Iterator[Client]:
    with connect(running) as connection:
        connection.drop_database("chat")
        yield connection


def test_the_first_migration_goes_up_and_back(
    running: MongoDBSettings, client: Client, declared: Declared, passwords: dict[str, str]
) -> None:
    silent = {
        name: value
        for name, value in GOOD["conversations"].items()
        if name not in {"last_message_at", "last_message_preview"}
    }
    client["chat"]["conversations"].insert_many([copy.deepcopy(silent) for _ in range(5)])
    assert states(running, declared) == {FIRST: "pending"}
    (change,) = history.up(running, declared, to=FIRST)
    assert (change.kind, change.target, change.risk) == ("migration", FIRST, Risk.REWRITING)
    assert states(running, declared) == {FIRST: "applied"}
    assert {found["last_message_at"] for found in client["chat"]["conversations"].find()} == {
        silent["created_at"].replace(tzinfo=None)
    }
    engine.apply(running, declared, passwords)
    assert history.up(running, declared) == ()

    # Back again: first with the validator that forbids it, then without.
    assert history.down(running, declared)[0] == ()
    with pytest.raises(ApplyError, match=r"the validator refuses what it makes of _id [0-9a-f]{24}; apply the one"):
        history.down(running, declared, allow_destructive=True)
    client["chat"].command({"collMod": "conversations", "validator": {}})
    (taken,), held = history.down(running, declared, allow_destructive=True)
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

    history.up(running, with_migrations(declared, migration()), report=report, pace=Pace(batch=10))
    assert said == [
        "0001_count_up: things: 10 of 25",
        "0001_count_up: things: 20 of 25",
        "0001_count_up: things: 25 of 25",
        "0001_count_up: things: 26 of 26",
    ]
    assert client["chat"]["things"].distinct("n") == [1]


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
        history.up(running, with_migrations(declared, migration(source=source)))
    assert str(error.value).startswith("mongodb migration 0001_count_up: mongo/migrations/0001_count_up.py:")
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    good = with_migrations(declared, migration())
    assert states(running, good) == {"0001_count_up": "pending"}
    if "promises" not in case:
        assert client["chat"]["things"].distinct("n") == [0]
        history.up(running, good)
        assert client["chat"]["things"].distinct("n") == [1]


def test_a_file_that_changed_or_went_after_it_was_applied_is_refused(
    running: MongoDBSettings, client: Client, declared: Declared
) -> None:
    fill(client, 1)
    second = migration("0002_again", COUNT_UP.replace("counted", "recounted"))
    history.up(running, with_migrations(declared, migration()))
    edited = with_migrations(declared, migration(source=COUNT_UP + "# later\n"), second)
    missing = with_migrations(declared, second)
    for wrong, state, reason in (
        (edited, "edited", "mongo/migrations/0001_count_up.py was edited after it was applied: restore it and add"),
        (missing, "missing", "it was applied and its file is missing: use the checkout that holds it"),
    ):
        assert states(running, wrong) == {"0001_count_up": state, "0002_again": "pending"}
        with pytest.raises(ApplyError, match=f"^mongodb migration 0001_count_up: {reason}"):
            history.up(running, wrong)
        with pytest.raises(UsageError, match=f"migration 0001_count_up is {state}: use the checkout"):
            history.down(running, wrong)


def test_up_and_down_to_a_migration(running: MongoDBSettings, client: Client, declared: Declared) -> None:
    fill(client, 3)
    names = ("0001_a", "0002_b", "0003_c")
    three = with_migrations(declared, *(migration(name, COUNT_UP.replace("counted", name[-1])) for name in names))
    assert [change.target for change in history.up(running, three, to="0002_b")] == ["0001_a", "0002_b"]
    assert list(states(running, three).values()) == ["applied", "applied", "pending"]
    history.up(running, three)
    (held, _), nothing = (
        history.down(running, three, to="0001_a")[1],
        history.down(running, three, to="0001_a")[0],
    )
    assert (held.target, nothing) == ("0003_c", ())
    taken, _ = history.down(running, three, to="0001_a", allow_destructive=True)
    assert [change.target for change in taken] == ["0003_c", "0002_b"]
    assert client["chat"]["things"].distinct("n") == [1]
    for wrong in ("0009_x", "0003_c"):
        with pytest.raises(UsageError, match=wrong):
            history.down(running, three, to=wrong)
