"""What each query of the API reads, as the server's profiler saw it."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from bson import ObjectId

from chat_api.conversations.repository import Conversations
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import NotificationPreferences, Preferences
from chat_api.notifications.repository import Notifications
from chat_api.paging import Cursor, parse
from chat_api.stores.mongodb import Document, MongoDB
from dbkeep.mongodb.connect import Client
from mongodb_population import EPOCH, Populated


@dataclass(frozen=True, slots=True)
class Query:
    """One operation of a call as the profiler recorded it; `returned` counts matched documents for an update."""

    call: str
    collection: str
    plan: str
    keys: int
    documents: int
    returned: int
    sorted_in_memory: bool


async def queries(client: Client, store: MongoDB, of: Populated) -> list[Query]:
    """Return every query that every method of the repositories makes, as the profiler saw it."""
    conversations = Conversations(store)
    messages = Messages(store, conversations)
    notifications, preferences = Notifications(store), NotificationPreferences(store)
    me, talk = of.busy, of.conversation
    found: list[Query] = []

    async def watch(name: str, call: Awaitable[Any]) -> Any:
        client["chat"].command("profile", 0)
        client["chat"].drop_collection("system.profile")
        client["chat"].command("profile", 2)
        answer = await call
        client["chat"].command("profile", 0)
        seen = client["chat"]["system.profile"].find({"user": "chat_api@admin", "op": {"$ne": "insert"}})
        found.extend(_query(name, entry) for entry in seen if not entry["ns"].endswith(".system.profile"))
        return answer

    page = await watch("conversations.page", conversations.page(me, 50, None))
    await watch("conversations.page before", conversations.page(me, 50, parse(page.next)))
    await watch("conversations.one", conversations.one(me, talk))
    await watch("conversations.create", conversations.create(me, "private", [of.other], None))
    await watch("conversations.create again", conversations.create(of.other, "private", [me], None))
    read = await watch("messages.page", messages.page(me, talk, 50, before=None, after=None))
    older = parse(read.older)
    read = await watch("messages.page before", messages.page(me, talk, 50, before=older, after=None))
    await watch("messages.page after", messages.page(me, talk, 50, before=None, after=parse(read.older)))
    await watch("messages.page end", messages.page(me, talk, 50, before=_beginning(), after=None))
    client_id = uuid4()
    sent, _ = await watch("messages.send", messages.send(of.other, talk, client_id, "Hello"))
    for number in range(60):  # what is repeated is not the latest any more
        await messages.send(me, talk, uuid4(), f"Between {number}")
    await watch("messages.send again", messages.send(of.other, talk, client_id, "Hello"))
    theirs = [sent.id, *(str(each["_id"]) for each in _of_the_other(client, of))]
    await watch("messages.mark_read", messages.mark_read(me, talk, theirs))
    listed = await watch("notifications.page", notifications.page(me, 50, None))
    await watch("notifications.page before", notifications.page(me, 50, parse(listed.next)))
    await watch("notifications.unread", notifications.unread(me))
    await watch("notifications.mark_read", notifications.mark_read(me, listed.items[0].id))
    await watch("preferences.own", preferences.own(me))
    await watch("preferences.put", preferences.put(me, Preferences()))
    client["chat"].drop_collection("system.profile")
    return found


def _beginning() -> Cursor:
    return Cursor(EPOCH + timedelta(milliseconds=200), ObjectId())


def _of_the_other(client: Client, of: Populated) -> Iterator[Document]:
    where = {"conversation_id": ObjectId(of.conversation), "sender_id": str(of.other), "read_by": []}
    return iter(client["chat"]["messages"].find(where, {"_id": 1}).limit(20))


def _query(call: str, entry: Document) -> Query:
    return Query(
        call, entry["ns"].partition(".")[2], entry.get("planSummary", "none"), entry.get("keysExamined", 0),
        entry.get("docsExamined", 0), entry.get("nMatched") or entry.get("nreturned") or 0,
        bool(entry.get("hasSortStage")),
    )  # fmt: skip
