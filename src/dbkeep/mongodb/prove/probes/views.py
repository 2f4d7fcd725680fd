"""P32 and P33: does a view show what its pipeline lets through, and nothing else?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.models import View
from dbkeep.mongodb.prove.documents import fresh, specimens
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.trials import NOTHING
from dbkeep.mongodb.prove.world import World
from dbkeep.mongodb.prove.writes import clear
from dbkeep.prove.probe import Finding, require

SOURCES = ("MongoDB manual: Views",)
MOST_DOCUMENTS = 20


@probe(
    "P32", "A view shows what its declared pipeline makes of the documents", area="views", sources=SOURCES, live=False
)
def shown(world: World) -> Iterator[Finding]:
    for view in _views(world):
        (collection,) = [one for one in world.declared.collections if one.name == view.view_on]
        database = world.administrator()[world.database]
        database[collection.name].insert_many(
            [fresh(one) for one in specimens(world, collection).good[:MOST_DOCUMENTS]]
        )
        order: list[Document] = [{"$sort": {"_id": 1}}]
        wanted = list(database[collection.name].aggregate([*view.pipeline, *order]))
        for user in world.users:
            if world.may(user, "find", view.name):
                found = list(world.client(user)[world.database][view.name].aggregate(order))
                if found != wanted:
                    fields = {name for document in found for name in document}
                    declared = {name for document in wanted for name in document}
                    more = ", ".join(sorted(fields - declared)) or "other documents"
                    yield Finding(user, view.name, f"shows something else than declared: {more}")
        clear(world, collection.name)


@probe("P33", "Who reads a view cannot ask for what the view leaves out", area="views", sources=SOURCES)
def behind(world: World) -> Iterator[Finding]:
    """A stage before the view's own, or another collection under its name."""
    for view in _views(world):
        for user in world.users:
            if not world.may(user, "find", view.name) or world.may(user, "find", view.view_on):
                continue
            command = {"find": view.name, "filter": NOTHING}
            require(world.attempt(user, world.database, command).is_done, f"{user} cannot find in {view.name}")
            for title, attack in (
                ("find in its collection", {"find": view.view_on, "filter": NOTHING}),
                ("its definition", {"find": "system.views"}),
                ("change it", {"collMod": view.name}),
            ):
                tried = world.attempt(user, world.database, attack)
                if not tried.is_denied:
                    yield Finding(user, view.name, f"{title}: {tried}")


def _views(world: World) -> list[View]:
    require(world.declared.views, "no view is declared")
    return sorted(world.declared.views, key=lambda view: view.name not in world.first)
