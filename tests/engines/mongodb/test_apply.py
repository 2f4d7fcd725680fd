"""From nothing to declared, and what apply refuses, holds back, and does not show."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from dbkeep import mongodb as engine
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, address
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError, Risk
from dbkeep.settings import MongoDBSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_everything_declared_was_in_the_first_plan(
    empty: MongoDBSettings, declared: Declared, first_plan: list[str]
) -> None:
    wanted = {f"collection chat.{collection.name}" for collection in declared.collections}
    wanted |= {f"index chat.{c.name}.{index.name}" for c in declared.collections for index in c.indexes}
    wanted |= {f"view chat.{view.name}" for view in declared.views}
    wanted |= {f"parameter {address(empty)} {name}" for name in ("scramSHA256IterationCount",)}
    wanted |= {f"role {role.name}" for role in declared.roles} | {f"user {user.name}" for user in declared.users}
    wanted |= {f"migration {migration.id}" for migration in declared.migrations}
    assert set(first_plan) == wanted


def test_applied_twice_changes_nothing(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> None:
    assert list(engine.plan(settings, declared, passwords)) == []
    assert engine.apply(settings, declared, passwords) == ()


def test_version_and_counts(settings: MongoDBSettings, declared: Declared) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", engine.version(settings))
    wanted = {f"chat.{collection.name}": 0 for collection in declared.collections}
    assert engine.counts(settings) == wanted | {"chat.dbkeep_migrations": len(declared.migrations)}


def test_a_changed_password_is_set_and_never_shown(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> None:
    other = passwords | {"chat_api": "a-new-password-for-this-test"}
    (change,) = engine.plan(settings, declared, other)
    assert (change.kind, change.target, change.summary) == ("user", "chat_api", "set the declared password")
    assert "a-new-password" not in str(change.as_json()) + repr(change)
    engine.apply(settings, declared, other)
    assert list(engine.plan(settings, declared, other)) == []
    engine.apply(settings, declared, passwords)


def test_a_user_that_may_not_log_on_from_here_keeps_its_password_and_gets_another(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> None:
    elsewhere = [
        user.model_copy(update={"client_source": ("192.0.2.1",)}) if user.name == "chat_api" else user
        for user in declared.users
    ]
    restricted = declared.model_copy(update={"users": tuple(elsewhere)})
    try:
        (change,) = engine.apply(settings, restricted, passwords)
        assert change.summary == "set the declared addresses to log on from"
        assert list(engine.plan(settings, restricted, passwords)) == []
        other = passwords | {"chat_api": "another-password-\u00a0for-this-test"}
        (change,) = engine.apply(settings, restricted, other)
        assert change.summary == "set the declared password"
        assert list(engine.plan(settings, restricted, other)) == []
    finally:
        engine.apply(settings, declared, passwords)


def test_a_missing_password_is_named(settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="no password for the MongoDB user chat_api; run: dbkeep init"):
        engine.plan(settings, declared, passwords | {"chat_api": ""})


def test_a_validator_that_documents_break_is_refused_with_count_and_examples(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], administrator: Client
) -> None:
    conversations = administrator["chat"]["conversations"]
    administrator["chat"].command({"collMod": "conversations", "validator": {}})
    ids = [ObjectId() for _ in range(5)]
    conversations.insert_many([{"_id": _id, "type": "private", "participants": [str(_id)]} for _id in ids])
    try:
        (change,) = engine.plan(settings, declared, passwords)
        examples = ", ".join(map(str, ids[:3]))
        assert change.refused == (
            f"5 documents break the declared validator, for example _id {examples}; "
            "repair them first by a migration, or apply with --warn"
        )
        with pytest.raises(ApplyError, match=r"^mongodb validator chat\.conversations: 5 documents break"):
            engine.apply(settings, declared, passwords)
    finally:
        conversations.delete_many({})
        engine.apply(settings, declared, passwords)
    assert list(engine.plan(settings, declared, passwords)) == []


@pytest.mark.parametrize("value", ["text", 5, None, {"a": 1}], ids=str)
def test_documents_of_any_shape_are_found_and_none_stops_the_search(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], administrator: Client, value: object
) -> None:
    """The rules meet fields of every type: an expression that raises would hide what it should find."""
    for collection in declared.collections:
        administrator["chat"].command({"collMod": collection.name, "validator": {}})
        fields = {name: value for name in collection.json_schema["properties"] if name != "_id"}
        administrator["chat"][collection.name].insert_one(fields)
    try:
        changes = {change.target: change.refused for change in engine.plan(settings, declared, passwords)}
        assert {target for target, refused in changes.items() if "1 document breaks" in str(refused)} == {
            f"chat.{collection.name}" for collection in declared.collections
        }
    finally:
        for collection in declared.collections:
            administrator["chat"][collection.name].delete_many({})
        engine.apply(settings, declared, passwords)


def test_a_ttl_index_that_would_remove_documents_at_once_is_destructive(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], administrator: Client
) -> None:
    notifications = administrator["chat"]["notifications"]
    administrator["chat"].command({"dropIndexes": "notifications", "index": "expires_at"})
    document = {
        "user_id": "0190b5a0-0000-7000-8000-000000000001",
        "type": "system",
        "content": {"title": "hello"},
        "related_to": {"type": "system", "id": "1"},
        "is_read": False,
        "created_at": NOW,
        "expires_at": datetime.now(UTC) + timedelta(days=1),
    }
    notifications.insert_one(document)
    try:
        (change,) = engine.plan(settings, declared, passwords)
        assert change.risk is Risk.LOCKING
        notifications.update_one({}, {"$set": {"expires_at": NOW + timedelta(days=1)}})
        (change,) = engine.plan(settings, declared, passwords)
        assert change.risk is Risk.DESTRUCTIVE
        assert engine.apply(settings, declared, passwords) == ()
    finally:
        notifications.delete_many({})
        engine.apply(settings, declared, passwords)


def test_a_collection_that_cannot_be_changed_in_place_is_refused(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], administrator: Client
) -> None:
    administrator["chat"].drop_collection("notification_preferences")
    administrator["chat"].command({"create": "notification_preferences", "capped": True, "size": 4096})
    try:
        refused = [change for change in engine.plan(settings, declared, passwords) if change.refused]
        assert [change.summary for change in refused] == ["has undeclared options capped, size"]
    finally:
        administrator["chat"].drop_collection("notification_preferences")
        engine.apply(settings, declared, passwords)


def test_a_server_out_of_reach_is_one_line(settings: MongoDBSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbkeep.mongodb.connect.TIMEOUT_MS", 1000)
    anonymous = settings.model_copy(update={"certificate_key_file": None})
    with pytest.raises(UsageError, match=r"requires authentication .*; log on as the host administrator"):
        engine.version(anonymous)
    with pytest.raises(UsageError, match="check that mongod runs, is a member of the replica set"):
        engine.version(settings.model_copy(update={"replica_set": "other"}))
    nobody = settings.model_copy(update={"port": 1})
    with pytest.raises(DbkeepError, match=r"^mongod at 127\.0\.0\.1:1: [^\n]*Connection refused[^\n]*$"):
        engine.version(nobody)
