"""Mutants of collections: one gone, one too many."""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.mongodb import statements
from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant
from dbkeep.mongodb.prove.trials import NOBODY
from dbkeep.mongodb.statements import Command


def collections(ground: Ground) -> Iterator[Mutant]:
    database = ground.database
    for collection in ground.declared.collections:
        drop = statements.drop_collection(database, collection.name)
        again = statements.create_collection(database, collection)
        built = [
            statements.create_index(database, collection.name, statements.index_specification(index))
            for index in collection.indexes
        ]
        # What is inserted may have made a plain one meanwhile.
        undo = (drop, again, *built)
        name = f"{collection.name}: dropped"
        yield Mutant(name, "collection: dropped", (drop,), undo, about=frozenset({collection.name}))
    create, drop = Command(database, {"create": NOBODY}), Command(database, {"drop": NOBODY})
    yield Mutant("a collection more", "collection: undeclared", (create,), (drop,))
