"""P30 and P31: does the server keep what users ask for, outside the collections?"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import Finding, require

SOURCES = ("STIG SV-252168",)
LOGGED_LATELY = 1 << 20


@probe("P30", "The profiler keeps no query", area="traces", sources=SOURCES, live=False)
def profiler(world: World) -> Iterator[Finding]:
    user, mark = _ask(world)
    profile = world.administrator()[world.database]["system.profile"]
    if any(mark in str(entry) for entry in profile.find()):
        yield Finding(user, f"{world.database}.system.profile", "keeps what a user asked for")


@probe("P31", "The log keeps no query that was quick", area="traces", sources=SOURCES, live=False)
def log(world: World) -> Iterator[Finding]:
    user, mark = _ask(world)
    with world.log.open("rb") as file:
        file.seek(max(0, world.log.stat().st_size - LOGGED_LATELY))
        if mark.encode() in file.read():
            yield Finding(user, "log", "keeps what a user asked for")


def _ask(world: World) -> tuple[str, str]:
    """Ask as a user for something that nobody else asks for."""
    mark = str(uuid4())
    for collection in world.collections:
        user = world.who_may("find", collection.name)
        if user is not None:
            done = world.attempt(user, world.database, {"find": collection.name, "filter": {"_id": mark}})
            require(done.is_done, f"{user} cannot find in {collection.name}: {done}")
            return user, mark
    require(False, "nobody is declared to find in a collection")
    raise AssertionError
