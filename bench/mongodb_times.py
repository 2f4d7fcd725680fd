"""Reading a page and sending a message through the repositories, beside the same commands by the bare driver.

Both sides work in turns on the same collections, with the same queries, projections, concerns and timeouts. The
driver's side is the administrator's: it has the server skip its validators, which the API's user may not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from chat_api.conversations.repository import PREVIEW_CHARACTERS, Conversations
from chat_api.messages.repository import SHOWN, Messages
from chat_api.stores.mongodb import Document, MongoDB, now
from dbkeep.settings import MongoDBSettings
from mongodb_population import Populated

PAGE = 50
CONTENT = "Message of a length that people write. " * 2
WARM_UP = 50

Side = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def bare_driver(settings: MongoDBSettings) -> AsyncIterator[AsyncDatabase[Document]]:
    """Yield the database by the bare driver, with the API's concerns and timeouts."""
    bare: AsyncMongoClient[Document] = AsyncMongoClient(
        host=settings.host, port=settings.port, replicaSet=settings.replica_set, tls=True,
        tlsCAFile=str(settings.ca_file), tlsCertificateKeyFile=str(settings.certificate_key_file),
        authMechanism="MONGODB-X509", w="majority", readConcernLevel="majority", tz_aware=True,
        timeoutMS=5000,
    )  # fmt: skip
    try:
        yield bare[settings.database]
    finally:
        await bare.close()


def sides(store: MongoDB, bare: AsyncDatabase[Document], of: Populated) -> dict[str, tuple[Side, Side]]:
    """Return each operation by the API and by the driver."""
    messages, talk = Messages(store, Conversations(store)), ObjectId(of.conversation)
    own = {"_id": talk, "participants": str(of.busy), "is_active": True}

    async def read() -> None:
        await bare["conversations"].find_one(own, {"_id": 1})
        found = bare["messages"].find({"conversation_id": talk}, SHOWN).sort([("created_at", -1), ("_id", -1)])
        await found.limit(PAGE + 1).to_list()

    async def send() -> None:
        await bare["conversations"].find_one(own, {"_id": 1})
        at = now()
        document = {
            "_id": ObjectId(), "conversation_id": talk, "sender_id": str(of.busy), "client_id": str(uuid4()),
            "content": CONTENT, "attachments": [], "created_at": at, "updated_at": at, "delivered_to": [],
            "read_by": [],
        }  # fmt: skip
        await bare["messages"].insert_one(document, bypass_document_validation=True)
        preview = {"last_message_at": at, "updated_at": at, "last_message_preview": CONTENT[:PREVIEW_CHARACTERS]}
        await bare["conversations"].update_one(
            {**own, "last_message_at": {"$lte": at}}, {"$set": preview}, bypass_document_validation=True
        )

    return {
        "read": (lambda: messages.page(of.busy, of.conversation, PAGE, before=None, after=None), read),
        "send": (lambda: messages.send(of.busy, of.conversation, uuid4(), CONTENT), send),
    }


async def times(compared: dict[str, tuple[Side, Side]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return p50 and p99 of each operation, in milliseconds: those of the API and of the driver.

    Who goes first changes with every round, because the second one finds what the first one read in the caches.
    """
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in compared}
    for number in range(WARM_UP + rounds):
        for name, both in compared.items():
            for side in (0, 1) if number % 2 else (1, 0):
                started = time.perf_counter()
                await both[side]()
                if number >= WARM_UP:
                    taken[name][side].append(1000 * (time.perf_counter() - started))
    return {
        name: {"p50": [statistics.median(every) for every in both], "p99": [_p99(every) for every in both]}
        for name, both in taken.items()
    }


def _p99(every: list[float]) -> float:
    return statistics.quantiles(every, n=100)[98]
