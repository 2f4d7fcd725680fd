"""C01 to C05: what no attempt can show, read from the server's catalogs by whoever is declared to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dbkeep.mongodb import normalise
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.diff.collections import validation_differs, view_differs
from dbkeep.mongodb.diff.indexes import PRIMARY_KEY, index_differs
from dbkeep.mongodb.inspect import SERVERS_OWN, LiveCollection
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.prove import matrix
from dbkeep.mongodb.prove.attempts import first_batch
from dbkeep.mongodb.prove.privileges import ADMINISTRATION, Target, actions
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import CATALOG, Finding, require

USERS_AND_ROLES = Target(ADMINISTRATION)
SOURCES = ("dbkeep design: closed world inside a named scope",)


@probe("C01", "Validators and views are listed as declared, and no other collection is", area=CATALOG, sources=SOURCES)
def collections(world: World) -> Iterator[Finding]:
    live = _listed(world)
    for collection in world.declared.collections:
        present = live.get(collection.name)
        if present is None or validation_differs(collection, present):
            yield Finding("mongod", collection.name, "validates otherwise than declared")
    for view in world.declared.views:
        if view_differs(view, live.get(view.name)):
            yield Finding("mongod", view.name, "is another view than declared")
    declared = set(world.names) | {RECORDS}
    for name in live.keys() - declared:
        yield Finding("mongod", name, "is not declared")


@probe("C02", "Indexes are listed as declared, and no other one is", area=CATALOG, sources=SOURCES)
def indexes(world: World) -> Iterator[Finding]:
    for collection in world.declared.collections:
        reader = world.who_may("listIndexes", collection.name)
        require(reader, f"nobody is declared to list the indexes of {collection.name}")
        listed = world.attempt(reader, world.database, {"listIndexes": collection.name})
        present = {index["name"]: dict(index) for index in first_batch(listed)}
        live = LiveCollection(collection.name, "collection", {}, present)
        for index in collection.indexes:
            if index_differs(collection, index, live):
                yield Finding("mongod", f"{collection.name}.{index.name}", "is another index than declared")
        for name in present.keys() - {index.name for index in collection.indexes} - {PRIMARY_KEY}:
            yield Finding("mongod", f"{collection.name}.{name}", "is not declared")


@probe("C03", "No other users and roles are listed than those declared", area=CATALOG, sources=SOURCES)
def access(world: World) -> Iterator[Finding]:
    users = {user.name: set(user.roles) for user in world.declared.users}
    listed = world.attempt(_reader(world, "viewUser"), ADMINISTRATION, {"usersInfo": 1})
    require(listed.is_done, f"users are not listed: {listed}")
    for user in (listed.reply or {})["users"]:
        if user["user"] not in users:
            yield Finding("mongod", user["user"], "is a user that is not declared")
        elif {role["role"] for role in user["roles"]} != users[user["user"]]:
            yield Finding("mongod", user["user"], "has other roles than declared")
    listed = world.attempt(_reader(world, "viewRole"), ADMINISTRATION, {"rolesInfo": 1})
    require(listed.is_done, f"roles are not listed: {listed}")
    for role in (listed.reply or {})["roles"]:
        if role["role"] not in {declared.name for declared in world.declared.roles}:
            yield Finding("mongod", role["role"], "is a role that is not declared")


@probe("C04", "Server parameters are as declared", area=CATALOG, sources=SOURCES)
def parameters(world: World) -> Iterator[Finding]:
    reader = _reader(world, "getParameter", Target())
    for parameter in world.declared.server.parameters:
        told = world.attempt(reader, ADMINISTRATION, {"getParameter": 1, parameter.name: 1})
        found = (told.reply or {}).get(parameter.name)
        if normalise.exact(found) != normalise.exact(parameter.value):
            yield Finding("mongod", parameter.name, f"is {found}, declared {parameter.value}")


@probe("C05", "What is not tried, because it would do harm, is granted as declared", area=CATALOG, sources=SOURCES)
def untried(world: World) -> Iterator[Finding]:
    yield from matrix.findings(list(matrix.observe(world, only_untried=True)))


def _reader(world: World, action: str, target: Target = USERS_AND_ROLES) -> str:
    found = [user for user in world.users if action in actions(world.declared_privileges(user), target)]
    require(found, f"nobody is declared to have {action} on {target}")
    return found[0]


def _listed(world: World) -> Mapping[str, LiveCollection]:
    reader = world.who_may("listCollections", "")
    require(reader, "nobody is declared to list the collections")
    entries: list[Document] = first_batch(
        world.attempt(reader, world.database, {"listCollections": 1, "cursor": {"batchSize": 1000}})
    )
    return {
        entry["name"]: LiveCollection(entry["name"], entry["type"], entry["options"])
        for entry in entries
        if not entry["name"].startswith(SERVERS_OWN)
    }
