"""What the API's queries cost on many messages: indexes and documents as the server's profiler saw them, and times.

Times are those of the repositories against the same operations by the bare driver on copies without a validator.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
from bson import ObjectId
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from chat_api.configuration import Address, Configuration, Credentials
from chat_api.conversations.repository import Conversations
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import NotificationPreferences, Preferences
from chat_api.notifications.repository import Notifications
from chat_api.paging import Cursor, parse
from chat_api.stores.mongodb import Document, MongoDB, now
from dbkeep import mongodb
from dbkeep.environment import checkout
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox import mongodb_security
from dbkeep.settings import MongoDBSettings

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
IN_A_CONVERSATION = 100
OF_THE_BUSY_ONE = 400
BATCH = 5000


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


@dataclass(frozen=True, slots=True)
class Populated:
    """A user with many conversations and notifications, and one conversation of theirs with many messages."""

    busy: UUID
    other: UUID
    conversation: str


def populate(client: Client, messages: int) -> Populated:
    """Fill the collections: MESSAGES in conversations of about 100, a tenth of them in one of the busy user."""
    chat, dice = client["chat"], random.Random(1)
    people = [uuid4() for _ in range(max(10, messages // 1000))]
    busy, other = people[0], people[1]
    count = max(OF_THE_BUSY_ONE * 2, messages // IN_A_CONVERSATION)
    ids = [ObjectId() for _ in range(count)]
    # Every second one of the busy user's is not active any more: the list must not read it.
    chat["conversations"].insert_many(
        [_conversation(_id, number, people, dice) for number, _id in enumerate(ids)], ordered=False
    )
    for start in range(0, messages, BATCH):
        numbers = range(start, min(start + BATCH, messages))
        documents = [_message(ids[0] if n % 10 == 0 else dice.choice(ids), n, busy, other) for n in numbers]
        chat["messages"].insert_many(documents, ordered=False, bypass_document_validation=True)
    chat["notifications"].insert_many(
        [_notification(busy if n % 2 else dice.choice(people), n) for n in range(max(1000, messages // 100))]
    )
    chat["notification_preferences"].insert_many(
        [{"user_id": str(user), **Preferences().model_dump(), "updated_at": EPOCH} for user in people]
    )
    return Populated(busy, other, str(ids[0]))


def _conversation(_id: ObjectId, number: int, people: list[UUID], dice: random.Random) -> Document:
    others = dice.sample(people[2:], 3)
    members = [*people[:2], *others] if number < OF_THE_BUSY_ONE * 2 else others
    at = EPOCH + timedelta(seconds=number)
    active = number >= OF_THE_BUSY_ONE * 2 or number % 2 == 0
    return {
        "_id": _id, "type": "group", "participants": list(map(str, members)), "created_by": str(members[0]),
        "created_at": at, "updated_at": at, "last_message_at": at, "is_active": active, "name": f"Group {number}",
    }  # fmt: skip


def _message(conversation: ObjectId, number: int, sender: UUID, reader: UUID) -> Document:
    at = EPOCH + timedelta(milliseconds=number)
    sender, reader = (sender, reader) if number % 20 else (reader, sender)
    receipts = [{"user_id": str(reader), "timestamp": at}] if number % 3 == 0 else []
    return {
        "_id": ObjectId(), "conversation_id": conversation, "sender_id": str(sender), "client_id": str(uuid4()),
        "content": f"Message {number} " * 5, "attachments": [], "created_at": at, "updated_at": at,
        "delivered_to": [], "read_by": receipts if number % 20 else [],
    }  # fmt: skip


def _notification(user: UUID, number: int) -> Document:
    at = EPOCH + timedelta(seconds=number)
    return {
        "user_id": str(user), "type": "system", "content": {"title": f"Notice {number}"},
        "related_to": {"type": "system", "id": str(number)}, "is_read": number % 3 == 0, "created_at": at,
        "expires_at": datetime(2100, 1, 1, tzinfo=UTC),
    }  # fmt: skip


def store_of(settings: MongoDBSettings, password: str) -> MongoDB:
    """Return the API's own store on a server, logged on as its own user."""
    configuration = Configuration.model_construct(
        ca_file=settings.ca_file, mongodb_hosts=[Address(host=settings.host, port=settings.port)],
        mongodb_replica_set=settings.replica_set, mongodb_database=settings.database,
    )  # fmt: skip
    return MongoDB(configuration, Credentials.model_construct(mongodb_chat_api=SecretStr(password)))


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


@asynccontextmanager
async def bare_copy(client: Client, settings: MongoDBSettings) -> AsyncIterator[AsyncDatabase[Document]]:
    """Yield a copy with the same indexes and no validator, by the bare driver with the same read and write concern."""
    for name in ("conversations", "messages"):
        client["chat"][name].aggregate([{"$out": {"db": "bare", "coll": name}}])
        for index in client["chat"][name].list_indexes():
            if index["name"] != "_id_":
                client["bare"].command({"createIndexes": name, "indexes": [dict(index)]})
    bare: AsyncMongoClient[Document] = AsyncMongoClient(
        host=settings.host, port=settings.port, replicaSet=settings.replica_set, tls=True,
        tlsCAFile=str(settings.ca_file), tlsCertificateKeyFile=str(settings.certificate_key_file),
        authMechanism="MONGODB-X509", w="majority", readConcernLevel="majority", tz_aware=True,
    )  # fmt: skip
    try:
        yield bare["bare"]
    finally:
        await bare.close()


async def times(
    store: MongoDB, bare: AsyncDatabase[Document], of: Populated, rounds: int
) -> dict[str, dict[str, float]]:
    """Return p50 and p99, in milliseconds, of reading a page and of sending, by the API and by the bare driver."""
    messages, talk = Messages(store, Conversations(store)), ObjectId(of.conversation)
    own = {"_id": talk, "participants": str(of.busy), "is_active": True}

    async def send() -> None:
        await bare["conversations"].find_one(own)
        at = now()
        document = _message(talk, 1, of.busy, of.other) | {"created_at": at, "updated_at": at}
        await bare["messages"].insert_one(document)
        preview = {"last_message_at": at, "updated_at": at, "last_message_preview": document["content"][:100]}
        await bare["conversations"].update_one({**own, "last_message_at": {"$lte": at}}, {"$set": preview})

    async def read() -> None:
        await bare["conversations"].find_one(own)
        found = bare["messages"].find({"conversation_id": talk}).sort([("created_at", -1), ("_id", -1)]).limit(51)
        await found.to_list()

    sides: dict[str, Callable[[], Awaitable[Any]]] = {
        "read": lambda: messages.page(of.busy, of.conversation, 50, before=None, after=None),
        "read by the driver": read,
        "send": lambda: messages.send(of.busy, of.conversation, uuid4(), "Message 1 " * 5),
        "send by the driver": send,
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            started = time.perf_counter()
            await call()
            taken[name].append(1000 * (time.perf_counter() - started))
    return {
        name: {"p50": statistics.median(every), "p99": statistics.quantiles(every, n=100)[98]}
        for name, every in taken.items()
    }


def search(client: Client) -> dict[str, float]:
    """Return how fast the server searches all messages for what breaks their validator, and the memory it takes."""
    validator = client["chat"].command("listCollections", filter={"name": "messages"})["cursor"]["firstBatch"][0]
    before = _resident(client)
    count = client["chat"]["messages"].count_documents({})
    started = time.perf_counter()
    breaking = client["chat"]["messages"].count_documents({"$nor": [validator["options"]["validator"]]})
    seconds = time.perf_counter() - started
    return {
        "documents_per_second": count / seconds, "breaking": breaking, "resident_mb_more": _resident(client) - before,
    }  # fmt: skip


def _resident(client: Client) -> float:
    return float(client.admin.command("serverStatus")["mem"]["resident"])


async def measure(settings: MongoDBSettings, password: str, messages: int, rounds: int) -> dict[str, Any]:
    with connect(settings) as client:
        of = populate(client, messages)
        store = store_of(settings, password)
        async with bare_copy(client, settings) as bare:
            seen = await queries(client, store, of)
            taken = await times(store, bare, of, rounds)
        await store.close()
        return {"queries": [asdict(query) for query in seen], "milliseconds": taken, "search": search(client)}


@click.command()
@click.option("--messages", default=100_000, show_default=True)
@click.option("--rounds", default=300, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(messages: int, rounds: int, as_json: bool) -> None:
    """Fill a server with MESSAGES messages, show what each query of the API reads, and time reading and sending."""
    declared = mongodb.read_declared(checkout())
    passwords = {user: secrets.token_urlsafe(32) for user in mongodb.users(declared)}
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        safe = mongodb_security.issue(Path(name) / "tls")
        with sandbox.start(Path(name) / "server", security=safe) as settings:
            mongodb.apply(settings, declared, passwords)
            result = asyncio.run(measure(settings, passwords["chat_api"], messages, rounds))
    if as_json:
        click.echo(json.dumps({"messages": messages, **result}, indent=2))
        return
    for query in result["queries"]:
        click.echo(f"{query['call']:<28} {query['documents']:>4} documents for {query['returned']:>3}  {query['plan']}")
    taken = result["milliseconds"]
    for name in ("read", "send"):
        for part in ("p50", "p99"):
            mine, bare = taken[name][part], taken[f"{name} by the driver"][part]
            click.echo(f"{name} {part}: {mine:.1f} ms = {mine / bare:.2f} x the bare driver without a validator")
    found = result["search"]
    click.echo(f"search for documents that break the validator: {found['documents_per_second']:.0f} documents/s, "
               f"{found['resident_mb_more']:.0f} MB more memory on the server")  # fmt: skip


if __name__ == "__main__":
    main()
