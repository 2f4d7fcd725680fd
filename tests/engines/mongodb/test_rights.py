"""Least privilege by attempt: each service as itself, over TLS with its password, against the declared matrix."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure

from dbkeep.mongodb.connect import Client, client
from dbkeep.settings import MongoDBSettings

UNAUTHORIZED = 13
LOGON_REFUSED = 18
COLLECTIONS = ("messages", "conversations", "notifications", "notification_preferences")
NOBODY = {"user_id": "nobody", "sender_id": "nobody"}

# An attempt that is allowed changes nothing: it finds no document, or the server refuses what it asks for.
ATTEMPTS: dict[str, Callable[[Any], Any]] = {
    "find": lambda collection: collection.find_one(NOBODY),
    "insert": lambda collection: collection.insert_one({"user_id": "nobody"}),
    "update": lambda collection: collection.update_one(NOBODY, {"$set": {"is_read": True}}),
    "remove": lambda collection: collection.delete_one(NOBODY),
    "changeStream": lambda collection: collection.watch(max_await_time_ms=1).close(),
    "listIndexes": lambda collection: list(collection.list_indexes()),
    "createIndex": lambda collection: collection.create_index([("user_id", 0)]),
    "collMod": lambda collection: collection.database.command("collMod", collection.name),
    "drop": lambda collection: collection.drop(),
}

MATRIX: dict[str, dict[str, set[str]]] = {
    "chat_api": {
        "messages": {"find", "insert", "update"},
        "conversations": {"find", "insert", "update"},
        "notifications": {"find", "update"},
        "notification_preferences": {"find", "insert", "update"},
    },
    "chat_notifier": {
        "messages": {"find", "changeStream"},
        "conversations": {"find"},
        "notifications": {"find", "insert"},
        "notification_preferences": {"find"},
    },
    "chat_retention": {
        "messages": {"find", "remove"},
        "conversations": {"find", "update"},
        "notifications": {"remove"},
    },
    "chat_analytics": {},
    "chat_migrator": {name: {"listIndexes", "createIndex", "collMod"} for name in COLLECTIONS},
    "chat_monitor": {},
    "chat_audit": {name: {"listIndexes"} for name in COLLECTIONS},
}
CASES = [(user, collection) for user in MATRIX for collection in COLLECTIONS]


def is_allowed(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OperationFailure as error:
        return error.code != UNAUTHORIZED
    return True


@pytest.mark.parametrize(("user", "collection"), CASES, ids=[f"{user}: {collection}" for user, collection in CASES])
def test_a_service_may_do_what_is_declared_and_nothing_else(
    as_user: Callable[[str], Client], user: str, collection: str
) -> None:
    target = as_user(user)["chat"][collection]
    allowed = {name for name, attempt in ATTEMPTS.items() if is_allowed(partial(attempt, target))}
    assert allowed == MATRIX[user].get(collection, set())


def test_analytics_sees_how_much_was_written_and_not_what(
    as_user: Callable[[str], Client], administrator: Client
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    message = {
        "conversation_id": ObjectId(),
        "sender_id": "0190b5a0-0000-7000-8000-000000000001",
        "content": "secret",
        **dict.fromkeys(("attachments", "delivered_to", "read_by"), ()),
        **dict.fromkeys(("created_at", "updated_at"), moment),
    }
    administrator["chat"]["messages"].insert_one(message)
    try:
        (seen,) = as_user("chat_analytics")["chat"]["message_activity"].find()
        assert seen["content_length"] == len("secret")
        assert "secret" not in str(seen)
    finally:
        administrator["chat"]["messages"].delete_many({})


@pytest.mark.parametrize("user", [*MATRIX, "chat_backup"])
def test_nobody_bypasses_validation_or_reaches_other_databases(as_user: Callable[[str], Client], user: str) -> None:
    session = as_user(user)
    command = {"insert": "messages", "documents": [{"a": 1}], "bypassDocumentValidation": True}
    assert not is_allowed(lambda: session["chat"].command(command))
    assert not is_allowed(lambda: session["other"]["things"].insert_one({"a": 1}))
    assert not is_allowed(lambda: session["admin"].command("createUser", "intruder", pwd="x", roles=["root"]))
    assert not is_allowed(lambda: session["admin"].command("setParameter", 1, logLevel=1))
    assert is_allowed(lambda: session["admin"].command("connectionStatus"))


def test_backup_reads_everything_and_writes_no_message(as_user: Callable[[str], Client]) -> None:
    session = as_user("chat_backup")
    for collection in COLLECTIONS:
        session["chat"][collection].find_one()
    session["admin"]["system.users"].find_one()
    # What cutting the oplog from elsewhere needs, and not what replaying it does.
    session["local"]["oplog.rs"].find_one()
    assert is_allowed(lambda: session["admin"].command({"appendOplogNote": 1, "data": {"dbkeep": "test"}}))
    entry = {"op": "d", "ns": "chat.messages", "o": {"_id": 1}}
    assert not is_allowed(lambda: session["admin"].command({"applyOps": [entry]}))
    assert not is_allowed(lambda: session["chat"]["messages"].delete_many({}))


def test_monitor_and_audit_see_the_server_and_no_document(as_user: Callable[[str], Client]) -> None:
    as_user("chat_monitor")["admin"].command("replSetGetStatus")
    audit = as_user("chat_audit")
    audit["admin"].command("getCmdLineOpts")
    audit["admin"].command("usersInfo", 1)
    assert {entry["name"] for entry in audit["chat"].list_collections()} >= set(COLLECTIONS)
    for user in ("chat_monitor", "chat_audit"):
        assert not is_allowed(as_user(user)["admin"]["system.users"].find_one)


@pytest.mark.parametrize(
    "options",
    [
        {"password": "wrong"},
        {"authSource": "chat"},
        {"authMechanism": "SCRAM-SHA-1"},
        {"username": "__system", "authSource": "local"},
    ],
    ids=["wrong password", "wrong database", "older mechanism", "internal account"],
)
def test_other_logons_are_refused(
    settings: MongoDBSettings, passwords: dict[str, str], options: dict[str, str]
) -> None:
    good = {"username": "chat_api", "authSource": "admin", "authMechanism": "SCRAM-SHA-256"}
    attempt = {**good, "password": passwords["chat_api"], **options}
    with client(settings, direct=True, **attempt) as session, pytest.raises(OperationFailure) as refusal:
        session.admin.command("connectionStatus")
    assert refusal.value.code in {LOGON_REFUSED, 334}
