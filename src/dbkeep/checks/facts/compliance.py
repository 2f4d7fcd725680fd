"""Do documents comply with their validators? Searched for a bounded time a call, going on where the last one ended.

The place is kept in a file of this host. It follows the index on _id by its bounds, because a query on _id passes over
values of other types.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson import json_util
from pymongo.collection import Collection
from pymongo.cursor import Cursor
from pymongo.errors import ExecutionTimeout, PyMongoError

from dbkeep.files import write_atomically
from dbkeep.mongodb.connect import describe

PLACE = Path("/var/lib/dbkeep/documents.json")
SECONDS = 15.0
# A search to the end must have begun within that time: longer than a week, so that one check a day gets through a lot.
MOST_SECONDS_AGO = 14 * 24 * 3600
STEP = 20_000
BY_ID = "_id_"

Document = dict[str, Any]


class Compliance:
    """The searches of one host's collections; `place` remembers how far each one is."""

    def __init__(self, place: Path = PLACE, *, seconds: float = SECONDS, step: int = STEP) -> None:
        self._place, self._seconds, self._step = place, seconds, step
        self._known: dict[str, Document] = _read(place)

    def search(self, collection: Collection[Document], info: Mapping[str, Any]) -> Document:
        """Search on for at most `seconds` and return what is known of the collection, in plain JSON values.

        `info` is what listCollections says of it: another validator begins anew, and so does a collection that was made
        again, such as by a restore.

        `breaking` is the _id of a document that breaks the validator or None, `searched` how many documents of about
        `documents` this sweep has seen, `age` how many seconds ago the last sweep that reached the end began or None.
        `stopped` is why the server did not go on, if it did not.
        """
        validator = info["options"]["validator"]
        digest = hashlib.sha256(json_util.dumps([info["info"]["uuid"], validator]).encode()).hexdigest()
        state = self._known.get(collection.full_name, {})
        if state.get("of") != digest:
            state = {"of": digest, "whole": None}
        state = {"begun": time.time(), "searched": 0, **state}
        found, stopped = _Found(), None
        try:
            found = self._go_on(collection, validator, state)
        except PyMongoError as error:
            stopped = describe(error)
        documents = collection.estimated_document_count()
        searched = documents if found.ended else state["searched"]
        self._known[collection.full_name] = {"of": digest, "whole": state["begun"]} if found.ended else state
        whole = self._known[collection.full_name]["whole"]
        return {
            "breaking": found.breaking,
            "searched": searched,
            "documents": max(searched, documents),
            "age": None if whole is None else round(time.time() - whole),
            "stopped": stopped,
        }

    def remember(self) -> None:
        """Keep the places for the next call."""
        self._place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_atomically(self._place, json_util.dumps(self._known, indent=2) + "\n", mode=0o600)

    def _go_on(self, collection: Collection[Document], validator: Mapping[str, Any], state: Document) -> _Found:
        """Search step by step until the end, a document that breaks the validator, or the end of the time."""
        deadline = time.monotonic() + self._seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                until = next(_between(collection, {}, state, left).skip(self._step).limit(1), None)
                bad = next(_between(collection, {"$nor": [validator]}, state, left, until).limit(1), None)
            except ExecutionTimeout:
                break
            if bad is not None:
                return _Found(breaking=str(bad["_id"]))
            if until is None:
                return _Found(ended=True)
            state["searched"] += self._step
            state["after"] = until["_id"]
        return _Found()


@dataclass(frozen=True, slots=True)
class _Found:
    breaking: str | None = None
    ended: bool = False


def _between(
    collection: Collection[Document],
    where: Document,
    state: Document,
    seconds: float,
    until: Document | None = None,
) -> Cursor[Document]:
    found = collection.find(where, {"_id": 1}).hint(BY_ID).max_time_ms(max(1, int(1000 * seconds)))
    if "after" in state:
        found = found.min([("_id", state["after"])])
    return found.max([("_id", until["_id"])]) if until else found


def complaint(found: Mapping[str, Any] | None) -> str | None:
    """Return what is wrong, or not known, of the documents of one collection: only a search to its end says "none"."""
    if found is None:
        return "it has no validator"
    if found["breaking"] is not None:
        return f"the document with _id {found['breaking']} breaks the validator"
    if found["age"] is not None and found["age"] <= MOST_SECONDS_AGO:
        return None
    reason = f": {found['stopped']}" if found["stopped"] else ", the next check goes on there"
    return (
        f"whether documents break the validator is not known, {found['searched']} of about {found['documents']} are"
        f" searched{reason}"
    )


def _read(place: Path) -> dict[str, Document]:
    """A file that cannot be read is as good as none: the search begins again, and says so."""
    try:
        return dict(json_util.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
