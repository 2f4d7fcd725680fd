"""Mutants of views: each field that a view leaves out shown, the pipeline gone, another collection behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbkeep.mongodb import statements
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.models import View
from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant

PROJECT = "$project"


def views(ground: Ground) -> Iterator[Mutant]:
    collections = {collection.name: collection for collection in ground.declared.collections}
    for view in ground.declared.views:
        for name in collections[view.view_on].json_schema["properties"]:
            for place, stage in enumerate(view.pipeline):
                if PROJECT in stage and stage[PROJECT].get(name) != 1 and name != "_id":
                    shown = {PROJECT: {**stage[PROJECT], name: 1}}
                    pipeline = [*view.pipeline[:place], shown, *view.pipeline[place + 1 :]]
                    yield _mutant(ground, view, f"shows {name}", "view: a field more", pipeline)
        yield _mutant(ground, view, "shows everything", "view: no pipeline", [])
        for other in collections.keys() - {view.view_on}:
            yield _mutant(ground, view, f"on {other}", "view: another collection", list(view.pipeline), on=other)
        drop = statements.drop_collection(ground.database, view.name)
        create = statements.create_view(ground.database, view)
        yield Mutant(f"{view.name}: dropped", "view: dropped", (drop,), (create,), about=frozenset({view.name}))


def _mutant(
    ground: Ground, view: View, what: str, kind: str, pipeline: Sequence[Document], *, on: str | None = None
) -> Mutant:
    other = view.model_copy(update={"pipeline": tuple(pipeline), "view_on": on or view.view_on})
    change = statements.change_view(ground.database, other)
    undo = statements.change_view(ground.database, view)
    return Mutant(f"{view.name}: {what}", kind, (change,), (undo,), about=frozenset({view.name}))
