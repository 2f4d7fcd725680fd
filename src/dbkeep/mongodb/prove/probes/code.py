"""P24 and P25: does the server run code of its clients, or know commands for tests?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.prove.attempts import NO_SUCH_COMMAND, first_batch
from dbkeep.mongodb.prove.documents import fresh, specimens
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.probes.authentication import ANYBODY
from dbkeep.mongodb.prove.world import World
from dbkeep.mongodb.prove.writes import clear
from dbkeep.prove.probe import Finding, require

FUNCTION = {"$function": {"body": "function() { return 1 }", "args": [], "lang": "js"}}
ACCUMULATOR = {
    "$accumulator": {
        "init": "function() { return 0 }",
        "accumulate": "function(state) { return state }",
        "accumulateArgs": [],
        "merge": "function(a, b) { return a }",
        "lang": "js",
    }
}
# One document even of an empty collection, so that there is something to evaluate.
ONE = {"$facet": {"found": [{"$limit": 1}, {"$count": "n"}]}}
# Where it runs after all, it must not run for long.
MOST_MS = 1000
TEST_COMMANDS = ("sleep", "configureFailPoint", "godinsert", "_hashBSONElement", "replSetTest", "httpClientRequest")


def _attempts(collection: str) -> dict[str, Document]:
    def aggregate(*stages: Document) -> Document:
        return {"aggregate": collection, "pipeline": [ONE, *stages], "cursor": {}}

    nothing, bounds = "function() {}", {"limit": 1, "maxTimeMS": MOST_MS}
    return {
        "$where": {"find": collection, "filter": {"$where": "return true"}, **bounds},
        "$where in $expr's place": {"find": collection, "filter": {"$and": [{"$where": nothing}]}, **bounds},
        "$function": aggregate({"$project": {"ran": FUNCTION}}),
        "$function in $match": aggregate({"$match": {"$expr": FUNCTION}}),
        "$accumulator": aggregate({"$group": {"_id": None, "ran": ACCUMULATOR}}),
        "mapReduce": {"mapReduce": collection, "map": nothing, "reduce": nothing, "out": {"inline": 1}, **bounds},
    }


@probe(
    "P24", "The server runs no JavaScript of its clients", area="code", sources=("CIS MongoDB 7 6.3", "STIG SV-252143"),
)  # fmt: skip
def javascript(world: World) -> Iterator[Finding]:
    asked = 0
    if world.is_copy:
        for collection in world.collections:
            document = fresh(specimens(world, collection).bases[0])
            world.administrator()[world.database][collection.name].insert_one(document)
    for user in world.users:
        readable = [one.name for one in world.declared.collections if world.may(user, "find", one.name)]
        for name in readable[:1]:
            plain = world.attempt(user, world.database, {"find": name, "limit": 1, "projection": {"_id": 1}})
            require(plain.is_done, f"{user} cannot even find in {name}: {plain}")
            attempts = _attempts(name)
            if not first_batch(plain):
                del attempts["mapReduce"]  # it makes nothing of nothing, also where it may not
            for title, command in attempts.items():
                asked += 1
                tried = world.attempt(user, world.database, command)
                require(not tried.is_denied, f"{user} is denied {title} before it is looked at")
                if tried.is_done:
                    yield Finding(user, title, "the server runs it")
    require(asked, "nobody is declared to find in a collection")
    for collection in world.collections if world.is_copy else ():
        clear(world, collection.name)


@probe(
    "P25", "There are no commands for tests", area="code", sources=("MongoDB manual: MongoDB Server Parameters",),
)  # fmt: skip
def test_commands(world: World) -> Iterator[Finding]:
    for name in TEST_COMMANDS:
        tried = world.attempt(None, "admin", {name: 1})
        if tried.code != NO_SUCH_COMMAND:
            yield Finding(ANYBODY, name, f"the server knows it: {tried}")
