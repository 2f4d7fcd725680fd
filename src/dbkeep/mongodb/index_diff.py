"""How the declared and live indexes of one collection differ: pure, no I/O."""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Iterator
from typing import Any

from dbkeep.mongodb import statements
from dbkeep.mongodb.declared import Collection, Index
from dbkeep.mongodb.inspect import LiveCollection
from dbkeep.mongodb.statements import Document, change
from dbkeep.plan import Change, Risk

PRIMARY_KEY = "_id_"

# What listIndexes adds of its own, and what older servers stored without meaning.
_NO_OPTION = frozenset({"v", "ns", "background"})

# The options that collMod changes without building the index again.
_IN_PLACE = {"expireAfterSeconds": None, "hidden": False}


def comparable(specification: Document) -> Document:
    """Return an index without what does not matter, its keys as ordered pairs."""
    options = {name: value for name, value in specification.items() if name not in _NO_OPTION}
    return {**options, "key": [(path, _direction(value)) for path, value in specification["key"].items()]}


def _direction(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def index_changes(
    database: str, collection: Collection, live: LiveCollection | None, expiring: Names[tuple[str, str]]
) -> Iterator[Change]:
    """Yield the changes of one collection's indexes; `expiring` are (collection, index) that would remove documents."""
    present = {name: index for name, index in (live.indexes if live else {}).items() if name != PRIMARY_KEY}
    declared = {index.name for index in collection.indexes}
    undeclared = {name: index for name, index in present.items() if name not in declared}
    for index in collection.indexes:
        same = present.get(index.name)
        if same is not None and comparable(same) == comparable(statements.index_specification(index)):
            continue
        rivals = {index.name: same} if same is not None else _rivals(index, undeclared)
        for name in rivals:
            undeclared.pop(name, None)
        yield _build(database, collection, index, rivals, live, risky=(collection.name, index.name) in expiring)
    for name, specification in undeclared.items():
        yield change(
            "index",
            f"{database}.{collection.name}.{name}",
            "drop, it is not declared",
            [statements.drop_index(database, collection.name, name)],
            before=specification,
            risk=Risk.DESTRUCTIVE,
        )


def _rivals(index: Index, undeclared: dict[str, Document]) -> dict[str, Document]:
    """The undeclared indexes of the same keys: the server does not keep both (error 85 IndexOptionsConflict)."""
    wanted = _signature(statements.index_specification(index))
    return {name: live for name, live in undeclared.items() if _signature(live) == wanted}


def _signature(specification: Document) -> tuple[Any, ...]:
    options = comparable(specification)
    return options["key"], options.get("partialFilterExpression"), options.get("collation")


def _build(
    database: str,
    collection: Collection,
    index: Index,
    rivals: dict[str, Document],
    live: LiveCollection | None,
    *,
    risky: bool,
) -> Change:
    wanted = statements.index_specification(index)
    in_place = _in_place_options(rivals.get(index.name), wanted)
    if in_place is not None:
        commands = [statements.change_index(database, collection.name, index.name, in_place)]
        summary, risk = f"set {', '.join(in_place)}", Risk.SAFE
    else:
        drops = [statements.drop_index(database, collection.name, name) for name in rivals]
        commands = [*drops, statements.create_index(database, collection.name, index)]
        risk = Risk.SAFE if live is None or live.empty else Risk.LOCKING
        summary = f"build in place of {', '.join(rivals)}" if rivals else "build"
    if risky:
        summary, risk = f"{summary}; the server then removes the documents past their date", Risk.DESTRUCTIVE
    before = next(iter(rivals.values()), None)
    target = f"{database}.{collection.name}.{index.name}"
    return change("index", target, summary, commands, before=before, after=wanted, risk=risk)


def _in_place_options(present: Document | None, wanted: Document) -> Document | None:
    """Return what collMod has to set, or None when the index must be built again."""
    if present is None:
        return None
    have, want = comparable(present), comparable(wanted)
    different = {name for name in have.keys() | want.keys() if have.get(name) != want.get(name)}
    if not different <= _IN_PLACE.keys():
        return None
    options = {name: want.get(name, _IN_PLACE[name]) for name in sorted(different)}
    return None if None in options.values() else options
