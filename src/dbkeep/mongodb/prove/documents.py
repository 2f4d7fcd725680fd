"""Good and bad documents of a collection, made from what is declared.

The server itself judges what is made, by the declared validator in a query: Python evaluates no aggregation expression.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from dbkeep.mongodb import json_schema
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.models import Collection, Rule
from dbkeep.mongodb.prove.attempts import first_batch
from dbkeep.mongodb.prove.faults import Fault, changed, faults
from dbkeep.mongodb.prove.values import Size, Values
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import require

CANDIDATES = 200
BATCH = 100
TRIES_OF_A_RULE = 60


@dataclass(frozen=True, slots=True)
class Specimens:
    """`bases` are good documents that differ in what they have; `good` are more of them; `bad` hold one fault each."""

    bases: Sequence[Document]
    good: Sequence[Document]
    bad: Sequence[tuple[Document, Fault]]


def specimens(world: World, collection: Collection) -> Specimens:
    """Return documents for a collection, the same ones each time.

    Ends the probe with CannotTell when none can be made that is good, or none that breaks a rule.
    """
    if collection.name not in world.memory:
        world.memory[collection.name] = _make(world, collection)
    made: Specimens = world.memory[collection.name]
    return made


def _make(world: World, collection: Collection) -> Specimens:
    sizes: tuple[Size, ...] = ("plain", "smallest", "largest")
    made = [
        Values(number, size=sizes[max(0, number % 10 - 7)]).document(collection.json_schema)
        for number in range(CANDIDATES)
    ]
    good = fitting(world, collection, made, collection.validator)
    require(good, f"no good document of {collection.name} was made")
    bases = _different(collection.json_schema, good)
    bad = [
        (base, fault)
        for number, base in enumerate(bases)
        for fault in faults(collection.json_schema, base, Values(number))
    ]
    for rule in collection.rules:
        broken = list(_breaking(world, collection, rule, bases))
        require(broken, f"no document was made that breaks only the rule of {collection.name}: {rule.why}")
        bad += broken
    return Specimens(bases, good, bad)


def fitting(world: World, collection: Collection, documents: Sequence[Document], query: Document) -> list[Document]:
    """Return those of `documents` that a query of the server finds; none of them is stored."""
    asking = world.who_may("find", collection.name)
    require(asking, f"nobody is declared to find in {collection.name}")
    found: set[int] = set()
    numbered = [{"n": number, "d": document} for number, document in enumerate(documents)]
    for start in range(0, len(numbered), BATCH):
        pipeline = [
            # A document even of an empty collection, to hang the others on.
            {"$facet": {"found": [{"$limit": 1}, {"$count": "n"}]}},
            {"$project": {"d": {"$literal": numbered[start : start + BATCH]}}},
            {"$unwind": "$d"},
            {"$replaceRoot": {"newRoot": {"$mergeObjects": ["$d.d", {"dbkeep_number": "$d.n"}]}}},
            {"$match": _numbered(query)},
            {"$project": {"dbkeep_number": 1}},
        ]
        command = {"aggregate": collection.name, "pipeline": pipeline, "cursor": {"batchSize": BATCH}}
        tried = world.attempt(asking, world.database, command)
        require(tried.is_done, f"{collection.name}: the declared validator cannot be asked for: {tried}")
        found |= {document["dbkeep_number"] for document in first_batch(tried)}
    return [document for number, document in enumerate(documents) if number in found]


def _numbered(query: Document) -> Document:
    """The schema must let the number through that tells which document was found."""
    if "$jsonSchema" not in query:
        return query
    schema = query["$jsonSchema"]
    properties = schema["properties"] | {"dbkeep_number": {"bsonType": ["int", "long"]}}
    return {**query, "$jsonSchema": {**schema, "properties": properties}}


def _different(schema: Document, good: Sequence[Document]) -> list[Document]:
    """Return few of the good documents that together have every field, enum value and filled array there is."""
    bases: list[Document] = []
    seen: set[str] = set()
    for document in sorted(good, key=lambda one: len(str(one))):
        features = set(_features(schema, document, ""))
        if not features <= seen:
            seen |= features
            bases.append(document)
    return bases


def _features(schema: Document, value: Any, path: str) -> Iterator[str]:
    yield f"{path} {value}" if "enum" in schema else path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _features(schema["properties"][name], inner, f"{path}.{name}")
    elif isinstance(value, list) and value:
        yield from _features(schema["items"], value[0], f"{path}.0")


def _breaking(
    world: World, collection: Collection, rule: Rule, bases: Sequence[Document]
) -> Iterator[tuple[Document, Fault]]:
    """Yield documents that the schema and every other rule allow, and this rule does not."""
    others = [other.expr for other in collection.rules if other != rule]
    query = {"$jsonSchema": collection.json_schema, "$expr": {"$and": [*others, {"$not": [rule.expr]}]}}
    fields = {path.split(".")[0] for path in json_schema.field_paths(rule.expr)} - {"_id"}
    for number, base in enumerate(bases):
        made = []
        for seed in range(TRIES_OF_A_RULE):
            other = Values(seed + 1000 * number, repeats=True).document(collection.json_schema)
            kept = {name: value for name, value in base.items() if name not in fields}
            made.append(kept | {name: value for name, value in other.items() if name in fields})
        for document in fitting(world, collection, made, query)[:5]:
            yield base, Fault("", f"against the rule: {rule.why}", document, changed(base, document))


def fresh(document: Document) -> Document:
    """Return a copy of a document under an _id of its own."""
    return {**copy.deepcopy(document), "_id": ObjectId()}
