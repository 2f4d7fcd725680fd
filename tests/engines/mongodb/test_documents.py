"""The validators on the real server: what the application writes gets in, anything else is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Int64, ObjectId
from pymongo.errors import DuplicateKeyError, WriteError

from dbkeep.mongodb.connect import Client

Document = dict[str, Any]
DOCUMENT_VALIDATION_FAILURE = 121
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANNA, BERT, CARL = (f"0190b5a0-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))

GOOD: dict[str, Document] = {
    "messages": {
        "conversation_id": ObjectId(),
        "sender_id": ANNA,
        "client_id": BERT,
        "content": "é" * 4000,
        "attachments": [
            {"id": ObjectId(), "type": "image/png", "url": "https://files.example/1", "name": "a.png", "size": Int64(1)}
        ],
        "created_at": NOW,
        "updated_at": NOW,
        "delivered_to": [{"user_id": BERT, "timestamp": NOW}],
        "read_by": [],
    },
    "conversations": {
        "type": "private",
        "participants": [ANNA, BERT],
        "created_by": ANNA,
        "created_at": NOW,
        "updated_at": NOW,
        "last_message_at": NOW,
        "last_message_preview": "hello",
        "is_active": True,
    },
    "notifications": {
        "user_id": ANNA,
        "type": "message",
        "content": {"title": "Bert wrote", "body": "hello", "actor_id": BERT},
        "related_to": {"type": "message", "id": str(ObjectId())},
        "is_read": False,
        "created_at": NOW,
        "expires_at": datetime(2100, 1, 1, tzinfo=UTC),
    },
    "notification_preferences": {
        "user_id": ANNA,
        "channels": {"in_app": True, "email": False, "push": True},
        "types": {"message": True, "friend_request": True, "system": False},
        "updated_at": NOW,
    },
}


def put(path: str, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *parents, name = path.split(".")
        here: Any = document
        for parent in parents:
            here = here[int(parent)] if parent.isdigit() else here[parent]
        here[name] = value

    return change


def receipts(count: int) -> list[Document]:
    return [{"user_id": f"0190b5a0-0000-7000-8000-{n:012x}", "timestamp": NOW} for n in range(count)]


BAD = [
    ("messages", "content", put("content", "")),
    ("messages", "content too long", put("content", "x" * 4001)),
    ("messages", "content is an operator", put("content", {"$gt": ""})),
    ("messages", "sender is no UUID", put("sender_id", "anna")),
    ("messages", "sender in capitals", put("sender_id", ANNA.replace("b5a0", "B5A0"))),
    ("messages", "sender with a line after it", put("sender_id", ANNA + "\n")),
    ("messages", "conversation as text", put("conversation_id", str(ObjectId()))),
    ("messages", "undeclared field", put("is_admin", True)),
    ("messages", "undeclared field in an attachment", put("attachments.0.path", "/etc/passwd")),
    ("messages", "attachment over http", put("attachments.0.url", "http://files.example/1")),
    ("messages", "attachment of negative size", put("attachments.0.size", -1)),
    ("messages", "attachment of fractional size", put("attachments.0.size", 1.5)),
    ("messages", "too many attachments", lambda d: d.update(attachments=d["attachments"] * 11)),
    ("messages", "too many receipts", put("read_by", receipts(101))),
    ("messages", "read twice by one user", put("read_by", receipts(1) * 2)),
    ("messages", "receipts are text", put("read_by", "everybody")),
    ("messages", "changed before it was made", put("updated_at", NOW - timedelta(seconds=1))),
    ("messages", "date as text", put("created_at", "2026-01-01")),
    ("conversations", "unknown type", put("type", "channel")),
    ("conversations", "private with three", put("participants", [ANNA, BERT, CARL])),
    ("conversations", "private with a name", put("name", "us")),
    ("conversations", "the same participant twice", put("participants", [ANNA, ANNA])),
    ("conversations", "nobody", put("participants", [])),
    (
        "conversations",
        "too many participants",
        lambda d: d.update(type="group", participants=[receipt["user_id"] for receipt in receipts(101)]),
    ),
    ("conversations", "last message before the conversation", put("last_message_at", NOW - timedelta(days=1))),
    ("conversations", "is_active is a number", put("is_active", 1)),
    ("notifications", "free content", put("content", {"title": "x", "html": "<b>"})),
    ("notifications", "expired when made", put("expires_at", NOW)),
    ("notifications", "related to nothing", lambda d: d.pop("related_to")),
    ("notification_preferences", "unknown channel", put("channels.sms", True)),
    ("notification_preferences", "channel is text", put("channels.email", "yes")),
]


@pytest.mark.parametrize("collection", GOOD)
def test_what_the_application_writes_gets_in(administrator: Client, collection: str) -> None:
    documents = administrator["chat"][collection]
    documents.insert_one(copy.deepcopy(GOOD[collection]))
    assert documents.delete_many({}).deleted_count == 1


def test_a_group_is_as_large_as_its_receipts(administrator: Client) -> None:
    users = [receipt["user_id"] for receipt in receipts(100)]
    group = GOOD["conversations"] | {"type": "group", "name": "all", "participants": users}
    message = GOOD["messages"] | {"read_by": receipts(100), "delivered_to": receipts(100)}
    administrator["chat"]["conversations"].insert_one(group)
    administrator["chat"]["messages"].insert_one(message)
    for collection in ("conversations", "messages"):
        administrator["chat"][collection].delete_many({})


@pytest.mark.parametrize(
    ("collection", "change"), [case[::2] for case in BAD], ids=[f"{case[0]}: {case[1]}" for case in BAD]
)
def test_anything_else_is_refused(administrator: Client, collection: str, change: Callable[[Document], Any]) -> None:
    document = copy.deepcopy(GOOD[collection])
    change(document)
    with pytest.raises(WriteError) as refusal:
        administrator["chat"][collection].insert_one(document)
    assert refusal.value.code == DOCUMENT_VALIDATION_FAILURE


@pytest.mark.parametrize("collection", GOOD)
def test_every_required_field_is_required(administrator: Client, collection: str) -> None:
    optional = {"client_id", "name", "last_message_preview"}
    for field in GOOD[collection].keys() - optional:
        document = {name: value for name, value in GOOD[collection].items() if name != field}
        with pytest.raises(WriteError) as refusal:
            administrator["chat"][collection].insert_one(document)
        assert refusal.value.code == DOCUMENT_VALIDATION_FAILURE, field


def test_an_update_is_validated_too(administrator: Client) -> None:
    messages = administrator["chat"]["messages"]
    messages.insert_one(copy.deepcopy(GOOD["messages"]))
    with pytest.raises(WriteError) as refusal:
        messages.update_one({}, {"$set": {"content": ""}})
    assert refusal.value.code == DOCUMENT_VALIDATION_FAILURE
    messages.delete_many({})


def test_a_repeated_send_is_stored_once_and_sends_without_client_id_are_not_one(administrator: Client) -> None:
    messages = administrator["chat"]["messages"]
    messages.insert_one(copy.deepcopy(GOOD["messages"]))
    with pytest.raises(DuplicateKeyError):
        messages.insert_one(copy.deepcopy(GOOD["messages"]))
    anonymous = {name: value for name, value in GOOD["messages"].items() if name != "client_id"}
    messages.insert_many([copy.deepcopy(anonymous), copy.deepcopy(anonymous)])
    assert messages.delete_many({}).deleted_count == 3
