"""How the declared and live indexes of one collection differ: pure, no I/O.

Queries keep an index all the time: what collMod can change is changed in place, any other change is built behind a
bridge (the declared keys and one field that no document has), and an undeclared index is hidden before it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dbkeep.mongodb import normalise, statements
from dbkeep.mongodb.findings import Findings
from dbkeep.mongodb.inspect import LiveCollection
from dbkeep.mongodb.models import Collection, Index
from dbkeep.mongodb.statements import Command, Document, change
from dbkeep.plan import Change, Risk

PRIMARY_KEY = "_id_"
BRIDGE = "_dbkeep_bridge"

# What listIndexes adds of its own, and what older servers stored without meaning.
_NO_OPTION = frozenset({"v", "ns", "background", "name"})

# The options that collMod changes and that say nothing of which keys may repeat.
_IN_PLACE = frozenset({"hidden", "prepareUnique", "expireAfterSeconds"})


def comparable(specification: Document) -> Document:
    """Return an index without its name and what does not matter, its keys as ordered pairs."""
    options = {
        name: normalise.exact(value)
        for name, value in specification.items()
        if name not in _NO_OPTION and value is not False
    }
    options["key"] = [(path, _direction(value)) for path, value in specification["key"].items()]
    options["collation"] = normalise.collation(specification.get("collation"))
    return options


def _direction(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def index_differs(collection: Collection, index: Index, live: LiveCollection) -> bool:
    """Return whether an index is missing or is another one than declared."""
    present = live.indexes.get(index.name)
    return present is None or comparable(present) != comparable(_specification(collection, index))


def holds_other_keys(collection: Collection, index: Index, live: LiveCollection) -> bool:
    """Return whether the declared index is about other fields or documents than the one that is there."""
    present, wanted = live.indexes.get(index.name), _specification(collection, index)
    return present is None or _held(present) != _held(wanted)


def _held(specification: Document) -> Document:
    return {name: value for name, value in comparable(specification).items() if name not in _IN_PLACE}


def _specification(collection: Collection, index: Index) -> Document:
    """Return the declared index; one without a collation has that of its collection."""
    specification = statements.index_specification(index)
    if index.collation is None and collection.collation is not None:
        specification["collation"] = collection.collation
    return specification


def index_changes(
    database: str,
    collection: Collection,
    live: LiveCollection | None,
    findings: Findings,
    migrations: str | None = None,
) -> Iterator[Change]:
    """Yield the changes of one collection's indexes; `migrations` are those that may mend what repeats."""
    present = {name: index for name, index in (live.indexes if live else {}).items() if name != PRIMARY_KEY}
    declared = {index.name for index in collection.indexes}
    bridges = {index.name + BRIDGE for index in collection.indexes} & present.keys()
    undeclared = {name: index for name, index in present.items() if name not in declared | bridges}
    for index in collection.indexes:
        if live is None or index_differs(collection, index, live):
            replaced = [index.name] if index.name in present else _of_same_keys(collection, index, undeclared)
            before = {name: present[name] for name in replaced}
            for name in replaced:
                undeclared.pop(name, None)
            yield _change(
                database, collection, index, before=before, live=live, findings=findings, migrations=migrations
            )
            bridges.discard(index.name + BRIDGE)
    for name in sorted(bridges):
        commands = [statements.drop_index(database, collection.name, name)]
        yield change("index", f"{database}.{collection.name}.{name}", "drop the bridge of a finished build", commands)
    for name, specification in undeclared.items():
        yield _undeclared(database, collection.name, name, specification, live)


def _of_same_keys(collection: Collection, index: Index, undeclared: Mapping[str, Document]) -> list[str]:
    """The undeclared indexes beside which the server does not build this one (error 85 IndexOptionsConflict)."""
    wanted = _signature(_specification(collection, index))
    return [name for name, live in undeclared.items() if _signature(live) == wanted]


def _signature(specification: Document) -> tuple[Any, ...]:
    options = comparable(specification)
    return tuple(options.get(name) for name in ("key", "partialFilterExpression", "collation", "unique", "sparse"))


def _change(
    database: str,
    collection: Collection,
    index: Index,
    *,
    before: dict[str, Document],
    live: LiveCollection | None,
    findings: Findings,
    migrations: str | None,
) -> Change:
    wanted, place = _specification(collection, index), (collection.name, index.name)
    options = _in_place(before.get(index.name), wanted)
    if options:
        commands = [statements.change_index(database, collection.name, index.name, option) for option in options]
        summary, risk = f"set {', '.join(name for option in options for name in option)}", Risk.SAFE
    elif live is None or live.empty:
        commands = [*_drops(database, collection, before), statements.create_index(database, collection.name, wanted)]
        summary, risk = "build", Risk.SAFE
    else:
        commands, summary = _build(database, collection, wanted, before, live)
        risk = Risk.LOCKING
    if place in findings.expiring:
        summary, risk = f"{summary}; the server then removes the documents past their date", Risk.DESTRUCTIVE
    refused = findings.rejected.get(("index", f"{collection.name}.{index.name}"))
    duplicates = findings.duplicates.get(place)
    found = duplicates.describe("repeats the key of another", "repeat the key of another") if duplicates else ""
    waits_for = migrations if duplicates and not refused else None
    if waits_for:
        summary = f"{summary}; it is unique and {found}"
    elif duplicates:
        refused = f"it is unique and {found}; repair them first"
    return change(
        "index",
        f"{database}.{collection.name}.{index.name}",
        summary,
        commands,
        before=next(iter(before.values()), None),
        after=wanted,
        risk=risk,
        refused=refused,
        waits_for=waits_for,
    )


def _drops(database: str, collection: Collection, names: Mapping[str, Document]) -> list[Command]:
    return [statements.drop_index(database, collection.name, name) for name in names]


def _build(
    database: str, collection: Collection, wanted: Document, before: dict[str, Document], live: LiveCollection
) -> tuple[list[Command], str]:
    """Return the commands that build an index on documents, behind a bridge where another one goes for it."""
    bridge = wanted["name"] + BRIDGE
    build = statements.create_index(database, collection.name, wanted)
    end = [statements.drop_index(database, collection.name, bridge)]
    if not before:
        return [build, *(end if bridge in live.indexes else ())], "build"
    kept = {"partialFilterExpression", "sparse", "collation"}
    specification = {name: value for name, value in wanted.items() if name in kept}
    specification |= {"name": bridge, "key": {**wanted["key"], BRIDGE: 1}}
    begin = statements.create_index(database, collection.name, specification)
    summary = f"build in place of {', '.join(before)}, behind a bridge that serves its queries meanwhile"
    return [begin, *_drops(database, collection, before), build, *end], summary


def _in_place(present: Document | None, wanted: Document) -> list[Document]:
    """Return what collMod has to set, in order, or nothing when the index must be built (again)."""
    if present is None:
        return []
    have, want = comparable(present), comparable(wanted)
    different = {name for name in have.keys() | want.keys() if have.get(name) != want.get(name)}
    options: list[Document] = []
    if "unique" in different and "unique" in want:
        options += [{"prepareUnique": True}, {"unique": True}]
        different -= {"unique", "prepareUnique"}
    for name in sorted(different):
        if name in {"hidden", "prepareUnique"}:
            options.append({name: wanted.get(name, False)})
        elif name == "expireAfterSeconds" and name in want:
            options.append({name: wanted[name]})
        else:
            return []
    return options


def _undeclared(
    database: str, collection: str, name: str, specification: Document, live: LiveCollection | None
) -> Change:
    """Hide it, and drop it when it is hidden; a TTL index removes documents while it is hidden, so it goes at once."""
    target = f"{database}.{collection}.{name}"
    since = live.hidden_since.get(name) if live else None
    if specification.get("hidden") or "expireAfterSeconds" in specification:
        hidden = f", hidden since {since:%Y-%m-%d %H:%M} UTC" if since else ""
        commands = [statements.drop_index(database, collection, name)]
        summary = f"drop, it is not declared{hidden}"
    else:
        commands = [statements.change_index(database, collection, name, {"hidden": True})]
        summary = "hide, it is not declared; the next apply drops it"
    return change("index", target, summary, commands, before=specification, risk=Risk.DESTRUCTIVE)
