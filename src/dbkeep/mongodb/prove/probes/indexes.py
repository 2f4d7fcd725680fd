"""P26 to P29: does every index do what it is declared for?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.json_schema import types_of
from dbkeep.mongodb.models import Collection, Index
from dbkeep.mongodb.prove.attempts import DUPLICATE_KEY, attempt
from dbkeep.mongodb.prove.documents import fitting, fresh, specimens
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.world import World
from dbkeep.mongodb.prove.writes import clear
from dbkeep.prove.probe import Finding, require

SOURCES = ("MongoDB manual: Indexes",)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
AN_HOUR, SOME_SECONDS = timedelta(hours=1), timedelta(seconds=3)
# The copy looks for expired documents every second.
WAIT_SECONDS = 8.0


@probe(
    "P26",
    "Every declared query finds its index, with these keys, filter and uniqueness",
    area="indexes",
    sources=SOURCES,
)
def queries(world: World) -> Iterator[Finding]:
    for collection, index in _indexes(world):
        user = world.who_may("find", collection.name) or ""
        keys, target = dict(index.fields), f"{collection.name}.{index.name}"
        within = dict(index.partial_filter or {})
        first = {index.fields[0][0]: {"$exists": True}} if index.sparse else {}
        plan = _scan(world, user, collection.name, first | within, keys)
        if plan is None:
            yield Finding(user, target, "a query that is declared for it does not find it")
            continue
        found = (plan.get("indexName"), plan.get("keyPattern"), plan.get("isUnique"), plan.get("isPartial"))
        wanted = (index.name, keys, index.unique, index.partial_filter is not None)
        if found != wanted or list(plan["keyPattern"]) != list(keys):
            yield Finding(user, target, f"is {found}, declared as {wanted}")
        if index.partial_filter is not None:
            yield from _kept_out(world, collection, index)


def _kept_out(world: World, collection: Collection, index: Index) -> Iterator[Finding]:
    """A query that must use the index finds only the documents that the index holds."""
    user, filter_ = world.who_may("insert", collection.name), index.partial_filter or {}
    if user is None or not world.may(user, "find", collection.name):
        return
    good = specimens(world, collection).good
    within = fitting(world, collection, good, filter_)
    pair = [*within[:1], *(document for document in good if document not in within)][:2]
    require(len(pair) == 2 and within, f"no good documents are within and outside of {collection.name}.{index.name}")
    stored = [fresh(document) for document in pair]
    ids = [document["_id"] for document in stored]
    with world.aborted(user) as (client, session):
        place = client[world.database][collection.name]
        place.insert_many(stored, session=session)
        found = place.find({"_id": {"$in": ids}}, session=session).hint(list(index.fields))
        held = [document["_id"] for document in found]
    if held != ids[:1]:
        yield Finding(user, f"{collection.name}.{index.name}", f"holds {len(held)} of 2 documents, and should one")


def _scan(world: World, user: str, collection: str, query: Document, keys: Document) -> Document | None:
    """Return the index scan of a query that must use the index on `keys`, None when there is none that can."""
    command = {"find": collection, "filter": query, "hint": keys}
    explained = world.attempt(user, world.database, {"explain": command, "verbosity": "queryPlanner"})
    return _stage((explained.reply or {}).get("queryPlanner", {}).get("winningPlan"))


def _stage(plan: Any) -> Document | None:
    if isinstance(plan, dict):
        if plan.get("stage") == "IXSCAN":
            return plan
        return next(filter(None, map(_stage, plan.values())), None)
    if isinstance(plan, list):
        return next(filter(None, map(_stage, plan)), None)
    return None


@probe("P27", "What a unique index forbids is refused, and nothing else is", area="indexes", sources=SOURCES)
def uniqueness(world: World) -> Iterator[Finding]:
    tried = 0
    for collection, index in _indexes(world):
        user = world.who_may("insert", collection.name)
        fields = [name for name, _ in index.fields]
        if user is None or any("." in name for name in fields):
            continue
        good = specimens(world, collection).good
        full = [document for document in good if all(name in document for name in fields)]
        within = fitting(world, collection, full, index.partial_filter) if index.partial_filter else full
        target = f"{collection.name}.{index.name}"
        if index.unique:
            tried += 1
            require(within, f"no document of {collection.name} is in its index {index.name}")
            code = _second(world, user, collection.name, [within[0], within[0]])
            if code != DUPLICATE_KEY:
                yield Finding(user, target, f"two documents of the same key are let in ({code})")
            outside = [document for document in good if index.partial_filter and document not in within]
            pairs = [[document, document] for document in fitting(world, collection, outside, collection.validator)[:1]]
        else:
            pairs = _alike(world, collection, index, good)
        for pair in pairs:
            code = _second(world, user, collection.name, pair)
            if code is not None:
                yield Finding(user, target, f"two documents that may be alike are refused (code {code})")
    require(tried, "no index is declared as unique")


def _alike(world: World, collection: Collection, index: Index, good: Sequence[Document]) -> list[list[Document]]:
    """Return a pair of good documents that share the keys of an index and differ in other fields."""
    names = [name for name, _ in index.fields]
    if "_id" in names or len(good) < 2:
        return []
    first = good[0]
    made = [other | {name: first[name] for name in names if name in first} for other in good[1:]]
    return [[first, other] for other in fitting(world, collection, made, collection.validator)[:1]]


def _second(world: World, user: str, collection: str, pair: Sequence[Document]) -> int | None:
    """Insert two documents and return the code that the second is refused with; neither stays."""
    with world.aborted(user) as (client, session):
        code: int | None = None
        for document in pair:
            command = {"insert": collection, "documents": [fresh(document)]}
            done = attempt(client, world.database, command, session)
            require(document is pair[-1] or done.is_done, f"a good document of {collection} is refused: {done}")
            code = done.code
        return code


@probe(
    "P28", "The server removes what has expired, and nothing else", area="indexes",
    sources=("MongoDB manual: TTL Indexes",), live=False,
)  # fmt: skip
def expiry(world: World) -> Iterator[Finding]:
    gone: dict[str, tuple[Collection, Any]] = {}
    kept: list[tuple[Collection, Any]] = []
    for collection in world.collections:
        old = {**fresh(specimens(world, collection).bases[0]), **dict.fromkeys(_dates(collection), LONG_AGO)}
        expiring = [index for index in collection.indexes if index.expire_after_seconds is not None]
        now = datetime.now(UTC)
        ends = {index.fields[0][0]: now - timedelta(seconds=index.expire_after_seconds or 0) for index in expiring}
        kept.append((collection, _store(world, collection, old | {name: end + AN_HOUR for name, end in ends.items()})))
        for index in expiring:
            expired = {**fresh(old), index.fields[0][0]: ends[index.fields[0][0]] - SOME_SECONDS}
            gone[f"{collection.name}.{index.name}"] = collection, _store(world, collection, expired)
    require(gone, "no index is declared to expire documents")
    _wait_for_the_monitor(world)
    for target, (collection, stored) in gone.items():
        if _is_there(world, collection, stored):
            yield Finding("mongod", target, "a document that expired is still there")
    for collection, stored in kept:
        if not _is_there(world, collection, stored):
            yield Finding("mongod", collection.name, "a document that has not expired is gone")
        clear(world, collection.name)


def _dates(collection: Collection) -> list[str]:
    fields = collection.json_schema["properties"]
    return [name for name, declared in fields.items() if types_of(declared) == ["date"]]


def _store(world: World, collection: Collection, document: Document) -> Any:
    place = world.administrator()[world.database][collection.name]
    return place.insert_one(document, bypass_document_validation=True).inserted_id


def _is_there(world: World, collection: Collection, stored: Any) -> bool:
    return world.administrator()[world.database][collection.name].count_documents({"_id": stored}) > 0


def _wait_for_the_monitor(world: World) -> None:
    """Return when the server has looked for expired documents twice, so once after now; or after a while."""
    deadline = time.monotonic() + WAIT_SECONDS
    begun = _looks(world)
    while _looks(world) < begun + 2 and time.monotonic() < deadline:
        time.sleep(0.1)


def _looks(world: World) -> int:
    return int(world.administrator().admin.command("serverStatus")["metrics"]["ttl"]["passes"])


def _indexes(world: World) -> Iterator[tuple[Collection, Index]]:
    for collection in world.collections:
        for index in sorted(collection.indexes, key=lambda one: one.name not in world.first):
            yield collection, index
