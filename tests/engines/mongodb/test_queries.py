"""What the benchmarks measure and no machine changes: each query has an index and reads no more than it returns."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import mongodb_observed
import mongodb_plan
import mongodb_population
import mongodb_queries
from chat_api.conversations.repository import Conversations
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import NotificationPreferences
from chat_api.notifications.repository import Notifications
from dbkeep import mongodb as engine
from dbkeep.mongodb.connect import Client
from dbkeep.mongodb.models import Declared
from dbkeep.settings import MongoDBSettings
from mongodb_observed import Query

ROOT = Path(__file__).parents[3]
MOST_DOCUMENTS = 1.2
SERVED = {"created_at", "updated_at", "expires_at"}  # by chat_retention and the server itself, not by the API


@pytest.fixture
def filled(
    administrator: Client, settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> Iterator[Client]:
    yield administrator
    for collection in declared.collections:
        administrator["chat"].drop_collection(collection.name)
    engine.apply(settings, declared, passwords)


def queries(client: Client, settings: MongoDBSettings, password: str, messages: int) -> list[Query]:
    populated = mongodb_population.populate(client, messages)

    async def run() -> list[Query]:
        store = mongodb_queries.store_of(settings, password)
        try:
            return await mongodb_observed.queries(client, store, populated)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.mark.parametrize("messages", [10_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_every_query_of_the_api_reads_an_index_and_hardly_more_documents_than_it_returns(
    filled: Client, settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], messages: int
) -> None:
    found = queries(filled, settings, passwords["chat_api"], messages)
    assert list(engine.plan(settings, declared, passwords, documents=True, search_seconds=600)) == []
    wrong = [
        query
        for query in found
        if not query.plan.startswith(("IXSCAN", "IDHACK", "COUNT_SCAN"))
        or query.documents > MOST_DOCUMENTS * max(1, query.returned)
        or query.sorted_in_memory
    ]
    assert wrong == []
    assert all(query.returned for query in found)

    # Every index that the API's queries are declared for served one, and every method made one.
    used = {(query.collection, query.plan) for query in found}
    for collection in declared.collections:
        for index in collection.indexes:
            if index.name not in SERVED:
                keys = ", ".join(f"{path}: {direction}" for path, direction in index.fields)
                assert (collection.name, f"IXSCAN {{ {keys} }}") in used, index.name
    called = {query.call.split(" ")[0] for query in found}
    repositories = {
        "conversations": Conversations,
        "messages": Messages,
        "notifications": Notifications,
        "preferences": NotificationPreferences,
    }
    methods = {
        f"{name}.{method}"
        for name, repository in repositories.items()
        for method, _ in inspect.getmembers(repository, inspect.isroutine)
        if not method.startswith("_")
    }
    # What every method of messages begins with, and what messages.send ends with.
    assert methods - called == {"conversations.require", "conversations.record_message"}


def commands(client: Client) -> int:
    """Return how many commands the server has run that look at collections, indexes and documents."""
    counted = client.admin.command("serverStatus")["metrics"]["commands"]
    return sum(
        int(counted[name]["total"]) for name in ("find", "aggregate", "listIndexes", "listCollections", "explain")
    )


def test_a_plan_asks_twice_for_each_collection(
    settings: MongoDBSettings, passwords: dict[str, str], administrator: Client
) -> None:
    asked = []
    try:
        for collections in (6, 26):
            declared = mongodb_plan.declared_with(collections)
            engine.apply(settings, declared, passwords)
            before = commands(administrator)
            assert list(engine.plan(settings, declared, passwords)) == []
            asked.append(commands(administrator) - before)
    finally:
        for name in administrator["chat"].list_collection_names(filter={"name": {"$regex": "^more_"}}):
            administrator["chat"].drop_collection(name)
        engine.apply(settings, engine.read_declared(ROOT), passwords)
    assert asked[1] - asked[0] == 2 * 20
