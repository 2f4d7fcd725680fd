"""P01 to P04: what may every user do, by itself and through what runs for it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.prove import matrix
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.trials import NOBODY, NOTHING
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import Finding, Note, require

SOURCES = ("CIS MongoDB 7 3.4", "MongoDB manual: Privilege Actions")
Stage = Callable[[str, str], Document]


def _nothing_of(name: str) -> Document:
    return {"$unionWith": {"coll": name, "pipeline": [{"$match": NOTHING}]}}


# Ways of a pipeline on `own` to read another collection.
READING: dict[str, Stage] = {
    "$lookup": lambda name, _: {"$lookup": {"from": name, "pipeline": [], "as": "found"}},
    "$lookup by field": lambda name, _: {
        "$lookup": {"from": name, "localField": "_id", "foreignField": "_id", "as": "found"}
    },
    "$graphLookup": lambda name, _: {
        "$graphLookup": {
            "from": name, "startWith": "$_id", "connectFromField": "_id", "connectToField": "_id", "as": "found",
        }
    },
    "$unionWith": lambda name, _: _nothing_of(name),
    "$unionWith in $facet": lambda name, _: {"$facet": {"found": [_nothing_of(name)]}},
    "$lookup in $lookup": lambda name, own: {
        "$lookup": {"from": own, "pipeline": [{"$lookup": {"from": name, "pipeline": [], "as": "f"}}], "as": "found"}
    },
}  # fmt: skip


@probe("P01", "Every user may do what is declared and nothing else, each action tried", area="rights", sources=SOURCES)
def privileges(world: World) -> Iterator[Finding | Note]:
    tried = 0
    for cell in matrix.observe(world):
        if cell.is_tried:
            tried += 1
            yield from matrix.findings([cell])
    yield Note(f"{tried} attempts of {len(world.users)} users")


@probe("P02", "No pipeline reads a collection that its user may not find in", area="rights", sources=SOURCES)
def pipelines(world: World) -> Iterator[Finding | Note]:
    names = [*world.names, NOBODY, "system.views"]
    tried = 0
    for user in world.users:
        readable = [name for name in names if world.may(user, "find", name)]
        for name in names if readable else ():
            for title, stage in READING.items():
                pipeline = [{"$match": NOTHING}, stage(name, readable[0])]
                command = {"aggregate": readable[0], "pipeline": pipeline, "cursor": {}}
                done = world.attempt(user, world.database, command)
                tried += 1
                if name in readable:
                    require(not done.is_denied, f"{user} may find in {name} and may not use {title} on it")
                elif not done.is_denied:
                    yield Finding(user, f"{title} {name}", f"reads from {readable[0]} what it may not find in: {done}")
    yield Note(f"{tried} pipelines")


@probe(
    "P03", "No pipeline writes into a collection that its user may not write to", area="rights", sources=SOURCES,
    live=False,
)  # fmt: skip
def written_by_pipelines(world: World) -> Iterator[Finding]:
    """Without a document to write; $out would still empty its target."""
    names = [collection.name for collection in world.declared.collections] + [NOBODY]
    asked = 0
    for user in world.users:
        readable = [name for name in names if world.may(user, "find", name)]
        for name in names if readable else ():
            may_insert = world.may(user, "insert", name)
            stages: list[tuple[str, bool, Document]] = [
                ("$merge", may_insert and world.may(user, "update", name), {"$merge": {"into": name}}),
                ("$out", may_insert and world.may(user, "remove", name), {"$out": name}),
            ]
            for title, allowed, stage in stages:
                asked += 1
                command = {"aggregate": readable[0], "pipeline": [{"$match": NOTHING}, stage], "cursor": {}}
                done = world.attempt(user, world.database, command)
                if not allowed and not done.is_denied:
                    yield Finding(user, f"{title} {name}", f"writes where it may not: {done}")
    require(asked, "no user is declared to find in a collection")


@probe("P04", "Nobody learns what other users do, or which databases there are", area="rights", sources=SOURCES)
def others(world: World) -> Iterator[Finding]:
    """What every user may ask is answered about itself only."""
    for user in world.users:
        granted = world.declared_privileges(user)
        if not any("inprog" in privilege["actions"] for privilege in granted):
            own = world.attempt(user, "admin", {"currentOp": 1, "$all": True})
            if not own.is_denied:
                yield Finding(user, "currentOp", f"tells of the operations of other users: {own}")
        if not any("listDatabases" in privilege["actions"] for privilege in granted):
            listed = world.attempt(user, "admin", {"listDatabases": 1, "nameOnly": True})
            names = {database["name"] for database in (listed.reply or {}).get("databases", ())}
            readable = {privilege["resource"].get("db") for privilege in granted}
            if names - readable:
                yield Finding(user, "listDatabases", f"lists {', '.join(sorted(names - readable))}")
