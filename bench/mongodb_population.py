"""Fills the collections of a throw-away server with as many messages as wanted, in the shape the API gives them.

Messages are written as BSON that was encoded once, with the few bytes that differ put in, and the indexes are built
after the load: both are several times faster than the driver's way, and what is stored is the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.write_concern import WriteConcern

from chat_api.notifications.preferences import Preferences
from dbkeep.mongodb.connect import Client

Document = dict[str, Any]
Progress = Callable[[str, float], None]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
IN_A_CONVERSATION = 100
OF_THE_BUSY_ONE = 400
BATCH = 10_000
WRITERS = 2


@dataclass(frozen=True, slots=True)
class Populated:
    """A user with many conversations and notifications, and one conversation of theirs with many messages."""

    busy: UUID
    other: UUID
    conversation: str


def populate(client: Client, messages: int, progress: Progress = lambda *_: None) -> Populated:
    """Fill the empty collections: MESSAGES in conversations of about 100, a tenth of them in one of the busy user.

    `progress` hears what is done and how far.
    """
    chat, dice = client["chat"], random.Random(1)
    people = [uuid4() for _ in range(max(10, messages // 1000))]
    busy, other = people[0], people[1]
    ids = [ObjectId() for _ in range(max(OF_THE_BUSY_ONE * 2, messages // IN_A_CONVERSATION))]
    # Every second one of the busy user's is not active any more: the list must not read it.
    for start in range(0, len(ids), BATCH):
        numbered = enumerate(ids[start : start + BATCH], start)
        chat["conversations"].insert_many(
            [_conversation(_id, number, people, dice) for number, _id in numbered], ordered=False
        )
    with _without_indexes(client, "messages", progress):
        _write_messages(client, messages, ids, people, progress)
    chat["notifications"].insert_many(
        [_notification(busy if n % 2 else dice.choice(people), n) for n in range(max(1000, messages // 100))]
    )
    chat["notification_preferences"].insert_many(
        [{"user_id": str(user), **Preferences().model_dump(), "updated_at": EPOCH} for user in people]
    )
    return Populated(busy, other, str(ids[0]))


@contextmanager
def _without_indexes(client: Client, name: str, progress: Progress) -> Iterator[None]:
    collection = client["chat"][name]
    indexes = [dict(index) for index in collection.list_indexes() if index["name"] != "_id_"]
    collection.drop_indexes()
    yield
    progress(f"{len(indexes)} indexes of {name}", 0)
    client["chat"].command({"createIndexes": name, "indexes": indexes})
    progress(f"{len(indexes)} indexes of {name}", 1)


def _write_messages(
    client: Client, messages: int, conversations: list[ObjectId], people: list[UUID], progress: Progress
) -> None:
    # Not journaled and by no other member confirmed: the server is thrown away.
    collection = client["chat"].get_collection("messages", write_concern=WriteConcern(w=1, j=False))
    busy, other = people[:2]
    mine, read, theirs = (_Template(message(busy)), _Template(message(busy, reader=other)), _Template(message(other)))

    def write(start: int) -> int:
        dice = random.Random(start)
        documents = []
        for number in range(start, min(start + BATCH, messages)):
            conversation = conversations[0] if number % 10 == 0 else dice.choice(conversations)
            template = theirs if number % 20 == 0 else read if number % 3 == 0 else mine
            documents.append(template.filled(number, conversation))
        collection.insert_many(documents, ordered=False, bypass_document_validation=True)
        return start

    with ThreadPoolExecutor(WRITERS) as threads:
        for start in threads.map(write, range(0, messages, BATCH)):
            progress("messages", min(1, (start + BATCH) / messages))


# What stands in a template for the bytes that differ.
MARKS: Mapping[str, Any] = {
    "_id": ObjectId(b"\x01" * 12),
    "conversation_id": ObjectId(b"\x02" * 12),
    "client_id": "c" * 12,
    "number": "n" * 12,
    "at": datetime(2099, 1, 1, tzinfo=UTC),
}


def message(sender: UUID, *, reader: UUID | None = None) -> Document:
    """Return a message as the API stores it, with MARKS where messages differ."""
    at = MARKS["at"]
    return {
        "_id": MARKS["_id"], "conversation_id": MARKS["conversation_id"], "sender_id": str(sender),
        "client_id": f"0190b5a0-0000-7000-8000-{MARKS['client_id']}", "content": f"Message {MARKS['number']} " * 3,
        "attachments": [], "created_at": at, "updated_at": at, "delivered_to": [],
        "read_by": [{"user_id": str(reader), "timestamp": at}] if reader else [],
    }  # fmt: skip


class _Template:
    def __init__(self, document: Document) -> None:
        self._encoded = bson.encode(document)
        self._places = {name: list(self._found(self._bytes(mark))) for name, mark in MARKS.items()}

    @staticmethod
    def _bytes(mark: Any) -> bytes:
        if isinstance(mark, ObjectId):
            return mark.binary
        if isinstance(mark, datetime):
            return int(1000 * mark.timestamp()).to_bytes(8, "little")
        return str(mark).encode("ascii")

    def _found(self, mark: bytes) -> Iterator[slice]:
        at = self._encoded.find(mark)
        while at >= 0:
            yield slice(at, at + len(mark))
            at = self._encoded.find(mark, at + len(mark))

    def filled(self, number: int, conversation: ObjectId) -> RawBSONDocument:
        """Return the message NUMBER of all: one a millisecond, with an _id that grows as the driver's do."""
        document = bytearray(self._encoded)
        digits = b"%012x" % number
        values = {
            "_id": (FIRST_ID + number).to_bytes(12, "big"),
            "conversation_id": conversation.binary,
            "client_id": digits,
            "number": digits,
            "at": (FIRST_MILLISECOND + number).to_bytes(8, "little"),
        }
        for name, value in values.items():
            for place in self._places[name]:
                document[place] = value
        return RawBSONDocument(bytes(document))


FIRST_MILLISECOND = int(1000 * EPOCH.timestamp())
FIRST_ID = int(EPOCH.timestamp()) << 64


def _conversation(_id: ObjectId, number: int, people: list[UUID], dice: random.Random) -> Document:
    others = dice.sample(people[2:], 3)
    members = [*people[:2], *others] if number < OF_THE_BUSY_ONE * 2 else others
    at = EPOCH + timedelta(seconds=number)
    active = number >= OF_THE_BUSY_ONE * 2 or number % 2 == 0
    return {
        "_id": _id, "type": "group", "participants": list(map(str, members)), "created_by": str(members[0]),
        "created_at": at, "updated_at": at, "last_message_at": at, "is_active": active, "name": f"Group {number}",
    }  # fmt: skip


def _notification(user: UUID, number: int) -> Document:
    at = EPOCH + timedelta(seconds=number)
    return {
        "user_id": str(user), "type": "system", "content": {"title": f"Notice {number}"},
        "related_to": {"type": "system", "id": str(number)}, "is_read": number % 3 == 0, "created_at": at,
        "expires_at": datetime(2100, 1, 1, tzinfo=UTC),
    }  # fmt: skip
