"""A pending migration is a change of the plan: apply runs it, and what documents stood in the way of follows."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from dbkeep import mongodb as engine
from dbkeep.errors import UsageError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.migrations.lock import LOCK, RECORDS
from dbkeep.mongodb.models import Collection, Declared
from dbkeep.plan import ApplyError, Change, Plan
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from .counting import fill, migration, states, with_migrations
from .test_documents import GOOD

FIRST = "0001_fill_last_message_at"
# What test migrations count in; its validator requires what they write.
THINGS = Collection.model_validate(
    {
        "name": "things",
        "json_schema": {
            "bsonType": "object",
            "additionalProperties": False,
            "required": ["counted"],
            "properties": {
                "_id": {"bsonType": "objectId"},
                "n": {"bsonType": "int"},
                "counted": {"bsonType": "bool"},
            },
        },
    }
)
SHORT_LISTS = """
'''A user has one line of preferences.'''

def up(documents):
    documents.update("notification_preferences", {"old": True}, {"$set": {"user_id": OTHER}, "$unset": {"old": ""}})

def down(documents):
    pass

def verify(documents):
    return documents.count("notification_preferences", {"old": True})
"""
NOTHING = "'''Nothing.'''\ndef up(documents): ...\ndef down(documents): ...\ndef verify(documents): return 0\n"


class Server:
    def __init__(
        self, client: Client, settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]
    ) -> None:
        self.client, self.chat, self.settings = client, client["chat"], settings
        self.declared, self.passwords = declared, passwords

    def plan(self, declared: Declared | None = None, **options: Any) -> Plan:
        return engine.plan(self.settings, declared or self.declared, self.passwords, **options)

    def apply(self, declared: Declared | None = None, **options: Any) -> tuple[Change, ...]:
        return engine.apply(self.settings, declared or self.declared, self.passwords, **options)

    def old_conversations(self, count: int) -> list[ObjectId]:
        """Put conversations there that the declared validator refuses and the first migration mends."""
        self.chat.command({"collMod": "conversations", "validator": {}})
        old = {name: value for name, value in GOOD["conversations"].items() if name != "last_message_at"}
        return list(self.chat["conversations"].insert_many([copy.deepcopy(old) for _ in range(count)]).inserted_ids)

    def forget(self) -> None:
        self.chat[RECORDS].drop()


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[MongoDBSettings]:
    with sandbox.start(folder / "pending") as settings:
        yield settings


@pytest.fixture
def server(running: MongoDBSettings, declared: Declared, passwords: dict[str, str]) -> Iterator[Server]:
    """A server as declared, without a document."""
    with connect(running) as client:
        client.drop_database("chat")
        ours = Server(client, running, declared, passwords)
        ours.apply()
        yield ours


def found(planned: Plan | tuple[Change, ...]) -> list[tuple[str, str, str, str | None]]:
    return [(change.kind, change.target, change.risk.value, change.waits_for) for change in planned]


def test_a_fresh_database_gets_all_of_them_and_a_second_apply_changes_nothing(server: Server) -> None:
    server.client.drop_database("chat")
    planned = server.plan()
    assert found(planned)[-1] == ("migration", FIRST, "safe", None)
    made = server.apply()
    assert [change.as_json() for change in made] == [change.as_json() for change in planned]
    assert states(server.settings, server.declared) == {FIRST: "applied"}
    assert list(server.plan()) == []
    assert server.apply() == ()
    assert server.chat[RECORDS].count_documents({"_id": LOCK}) == 0


def test_a_validator_waits_for_the_migration_that_mends_the_documents(server: Server) -> None:
    server.old_conversations(5)
    server.forget()
    planned = server.plan()
    assert found(planned) == [
        ("validator", "chat.conversations", "safe", f"migration {FIRST} first"),
        ("migration", FIRST, "rewriting", None),
    ]
    assert "5 documents break the declared validator, for example _id " in planned.changes[0].summary
    said: list[str] = []
    assert found(server.apply(report=said.append)) == [
        ("migration", FIRST, "rewriting", None),
        ("validator", "chat.conversations", "safe", None),
    ]
    assert said == [f"{FIRST}: conversations: 5 of 5"]
    assert list(server.plan()) == []


def test_a_unique_index_waits_for_the_migration_that_mends_the_documents(server: Server) -> None:
    preferences = server.chat["notification_preferences"]
    preferences.drop_index("user_id")
    server.chat.command({"collMod": preferences.name, "validator": {}})
    first = GOOD["notification_preferences"]
    preferences.insert_many([{**first, "_id": ObjectId()}, {**first, "_id": ObjectId(), "old": True}])
    source = SHORT_LISTS.replace("OTHER", repr("0190b5a0-0000-7000-8000-0000000000ff"))
    declared = server.declared.model_copy(
        update={"migrations": (*server.declared.migrations, migration("0002_one_line", source))}
    )
    waiting = "migration 0002_one_line first"
    assert found(server.plan(declared)) == [
        ("validator", "chat.notification_preferences", "safe", waiting),
        ("index", "chat.notification_preferences.user_id", "locking", waiting),
        ("migration", "0002_one_line", "rewriting", None),
    ]
    assert [change.kind for change in server.apply(declared)] == ["migration", "validator", "index"]
    assert list(server.plan(declared)) == []


def test_documents_that_no_migration_mends_are_refused_after_it_with_what_was_made(server: Server) -> None:
    server.old_conversations(2)
    declared = with_migrations(server.declared, *server.declared.migrations, migration("0002_nothing", NOTHING))
    with pytest.raises(ApplyError, match=r"^mongodb validator chat\.conversations: 2 documents break") as error:
        server.apply(declared)
    assert [change.target for change in error.value.applied] == ["0002_nothing"]
    assert states(server.settings, declared)["0002_nothing"] == "applied"


def test_a_validator_that_was_a_warning_is_none_after_the_migration(server: Server) -> None:
    server.old_conversations(3)
    server.forget()
    actions = [
        change.after["validationAction"] if change.kind == "validator" else change.kind
        for change in server.apply(warn=True)
    ]
    assert actions == ["warn", "migration", "error"]
    assert list(server.plan()) == []


def test_history_that_contradicts_the_files_is_refused_and_nothing_changes(server: Server) -> None:
    (known,) = server.declared.migrations
    edited = with_migrations(server.declared, known.model_copy(update={"source": known.source + "# later\n"}))
    missing = with_migrations(server.declared)
    server.chat["messages"].drop_index("created_at")
    for wrong, reason in ((edited, "was edited after it was applied"), (missing, "its file is missing")):
        assert [change.target for change in server.plan(wrong) if change.refused] == [FIRST]
        with pytest.raises(ApplyError, match=reason):
            server.apply(wrong)
    assert "created_at" not in server.chat["messages"].index_information()
    server.apply()


KILLED = """
import json, os, signal, sys
from dbkeep import mongodb
from dbkeep.mongodb.migrations import lock as migration_lock
from dbkeep.mongodb.models import Collection, Declared
from dbkeep.settings import MongoDBSettings
migration_lock.LEASE_SECONDS = 2
settings, declared, passwords = (json.loads(line) for line in sys.stdin)
mongodb.apply(
    MongoDBSettings.model_validate(settings), Declared.model_validate(declared), passwords,
    report=lambda _: os.kill(os.getpid(), signal.SIGKILL),
)
"""


def test_an_apply_that_is_killed_in_a_migration_goes_on_there_and_converges(server: Server) -> None:
    fill(server.client, 2500)
    declared = with_migrations(server.declared, *server.declared.migrations, migration("0002_count_up"))
    declared = declared.model_copy(update={"collections": (*declared.collections, THINGS)})
    models = (server.settings.model_dump_json(), declared.model_dump_json(), json.dumps(server.passwords))
    done = subprocess.run([sys.executable, "-c", KILLED], input="\n".join(models), text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    things = server.chat["things"]
    assert things.count_documents({"n": 1}) == 1000
    assert [change.target for change in server.plan(declared)] == ["chat.things", "0002_count_up"]
    server.apply(declared)
    assert things.distinct("n") == [1]
    assert list(server.plan(declared)) == []


def test_another_migrator_is_waited_for_by_name(server: Server) -> None:
    server.forget()

    def renewed(_: str) -> None:
        """As one that runs: its lease gets longer while it is looked at."""
        server.chat[RECORDS].update_one({"_id": LOCK}, [{"$set": {"until": {"$add": ["$until", 1]}}}])

    server.chat[RECORDS].update_one(
        {"_id": LOCK},
        [{"$set": {"owner": "another", "host": "db2", "pid": 7, "until": {"$add": ["$$NOW", 60_000]}}}],
        upsert=True,
    )
    with pytest.raises(UsageError, match=r"^process 7 on db2 is migrating this database: wait for it"):
        server.apply(report=renewed)
    assert states(server.settings, server.declared) == {FIRST: "pending"}


def test_the_records_are_no_drift_and_in_the_database_that_is_backed_up(server: Server) -> None:
    assert RECORDS in server.chat.list_collection_names()
    assert list(server.plan()) == []
