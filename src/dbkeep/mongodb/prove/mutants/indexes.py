"""Mutants of indexes: each one gone, about other keys or documents, with another promise, and one too many."""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.mongodb import statements
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.models import Collection, Index
from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant
from dbkeep.mongodb.prove.trials import NOBODY

HOUR = 3600


def indexes(ground: Ground) -> Iterator[Mutant]:
    for collection in ground.declared.collections:
        for index in collection.indexes:
            yield _mutant(ground, collection, index, "dropped", None)
            for what, specification in _others(statements.index_specification(index)):
                yield _mutant(ground, collection, index, what, specification)
            hide = statements.change_index(ground.database, collection.name, index.name, {"hidden": True})
            show = statements.change_index(ground.database, collection.name, index.name, {"hidden": False})
            name = f"{collection.name}.{index.name}: hidden"
            yield Mutant(name, "index: hidden", (hide,), (show,), about=_about(collection, index))
        more = statements.create_index(ground.database, collection.name, {"name": NOBODY, "key": {NOBODY: 1}})
        less = statements.drop_index(ground.database, collection.name, NOBODY)
        name = f"{collection.name}: an index more"
        yield Mutant(name, "index: undeclared", (more,), (less,), about=frozenset({collection.name}))


def _others(declared: Document) -> Iterator[tuple[str, Document]]:
    """Yield what else an index could be. Its name stays, so that it is one index and not two."""
    keys, first = declared["key"], next(iter(declared["key"]))
    yield "other direction", {**declared, "key": {**keys, first: -keys[first]}}
    if len(keys) > 1:
        fewer = dict(list(keys.items())[:-1])
        yield "a key less", {**declared, "key": fewer}
        yield "other order", {**declared, "key": dict(reversed(keys.items()))}
    if declared.get("unique"):
        yield "not unique", {name: value for name, value in declared.items() if name != "unique"}
    elif "_id" not in keys:
        yield "unique", {**declared, "unique": True}
    if "partialFilterExpression" in declared:
        yield "of all documents", {name: part for name, part in declared.items() if name != "partialFilterExpression"}
        yield "of other documents", {**declared, "partialFilterExpression": {NOBODY: {"$exists": True}}}
    if "expireAfterSeconds" in declared:
        later = declared["expireAfterSeconds"] + HOUR
        yield "an hour later", {**declared, "expireAfterSeconds": later}
        yield "never", {name: value for name, value in declared.items() if name != "expireAfterSeconds"}
    elif len(keys) == 1 and first.endswith("_at"):
        yield "expires documents", {**declared, "expireAfterSeconds": 0}


def _mutant(ground: Ground, collection: Collection, index: Index, what: str, specification: Document | None) -> Mutant:
    drop = statements.drop_index(ground.database, collection.name, index.name)

    def create(one: Document) -> statements.Command:
        return statements.create_index(ground.database, collection.name, one)

    declared = create(statements.index_specification(index))
    commands, undo = (
        ((drop,), (declared,)) if specification is None else ((drop, create(specification)), (drop, declared))
    )
    name = f"{collection.name}.{index.name}: {what}"
    return Mutant(name, f"index: {what}", commands, undo, about=_about(collection, index))


def _about(collection: Collection, index: Index) -> frozenset[str]:
    return frozenset({collection.name, index.name})
