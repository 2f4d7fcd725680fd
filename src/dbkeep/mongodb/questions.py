"""Asks the server for findings, and only about what a plan would change.

Each question is one command that the server answers in bounded memory and time; no document comes to the client.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import ExecutionTimeout, OperationFailure

from dbkeep.mongodb.connect import Client, Document, describe
from dbkeep.mongodb.diff.access import role_differs
from dbkeep.mongodb.diff.collections import validation_differs, view_differs
from dbkeep.mongodb.diff.indexes import holds_other_keys, index_differs
from dbkeep.mongodb.findings import Findings, Offenders
from dbkeep.mongodb.inspect import Live, LiveCollection, known_actions
from dbkeep.mongodb.models import Collection, Declared, Index

EXAMPLES = 3
NO_COLLECTION = "dbkeep.nothing"
COUNTED = {"_id": None, "count": {"$sum": 1}, "examples": {"$firstN": {"n": EXAMPLES, "input": "$_id"}}}

Names = Container[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Search:
    """How long a search may take, and whether documents are searched too that nothing would change for."""

    seconds: float = 60
    everywhere: bool = False


def ask(connection: Client, declared: Declared, live: Live, search: Search) -> Findings:
    """Return what the server knows about the differences between `declared` and `live`."""
    question = _Question(connection, declared.database, search)
    rejected = dict(question.rejected(declared, live))
    return Findings(
        violations=dict(question.violations(declared, live, rejected)),
        breaking=dict(question.breaking(live)) if search.everywhere else {},
        duplicates=dict(question.duplicates(declared, live, rejected)),
        expiring=frozenset(question.expiring(declared, live)),
        rejected=rejected,
    )


@dataclass(frozen=True, slots=True)
class _Question:
    connection: Client
    database: str
    search: Search

    def violations(self, declared: Declared, live: Live, rejected: Names) -> Iterator[tuple[str, Offenders]]:
        for collection in declared.collections:
            present = _filled(live, collection)
            asked = collection.validation_action == "error" and ("validator", collection.name) not in rejected
            if present and asked and validation_differs(collection, present):
                yield collection.name, self._breaking(collection.name, collection.validator)

    def breaking(self, live: Live) -> Iterator[tuple[str, Offenders]]:
        for name, present in live.collections.items():
            if present.options.get("validator") and not present.empty:
                yield name, self._breaking(name, present.options["validator"])

    def duplicates(
        self, declared: Declared, live: Live, rejected: Names
    ) -> Iterator[tuple[tuple[str, str], Offenders]]:
        for collection, index, present in _changed_indexes(declared, live):
            asked = index.unique and ("index", f"{collection.name}.{index.name}") not in rejected
            if asked and holds_other_keys(collection, index, present):
                yield (collection.name, index.name), self._repeated(collection, index)

    def expiring(self, declared: Declared, live: Live) -> Iterator[tuple[str, str]]:
        for collection, index, _ in _changed_indexes(declared, live):
            if index.expire_after_seconds is not None:
                path, limit = index.fields[0][0], datetime.now(UTC) - timedelta(seconds=index.expire_after_seconds)
                past = {"$and": [{path: {"$lt": limit}}, index.partial_filter or {}]}
                # What is not known in time may remove documents.
                if self._searched(collection.name, [{"$match": past}, {"$limit": 1}, {"$group": COUNTED}]):
                    yield collection.name, index.name

    def rejected(self, declared: Declared, live: Live) -> Iterator[tuple[tuple[str, str], str]]:
        for collection in declared.collections:
            present = live.collections.get(collection.name)
            if collection.validator and (present is None or validation_differs(collection, present)):
                yield from self._explain("validator", collection.name, {"filter": {"$and": [collection.validator]}})
            collations = [("collection", collection.name, collection.collation)]
            collations += [
                ("index", f"{collection.name}.{index.name}", index.collation) for index in collection.indexes
            ]
            for kind, name, collation in collations:
                if collation and (present is None or _has_changed_index(collection, present)):
                    yield from self._explain(kind, name, {"collation": collation})
        for view in declared.views:
            if view_differs(view, live.collections.get(view.name)):
                command = {"aggregate": view.view_on, "pipeline": list(view.pipeline), "cursor": {}}
                yield from self._refusal("view", view.name, command)
        yield from self._unknown_actions(declared, live)

    def _unknown_actions(self, declared: Declared, live: Live) -> Iterator[tuple[tuple[str, str], str]]:
        changed = [role for role in declared.roles if role_differs(declared.database, role, live)]
        known = known_actions(self.connection) if changed else frozenset()
        for role in changed:
            unknown = sorted({action for held in role.privileges for action in held.actions} - known)
            if unknown:
                yield ("role", role.name), f"the server knows no action {', '.join(unknown)}"

    def _explain(self, kind: str, name: str, query: Document) -> Iterator[tuple[tuple[str, str], str]]:
        yield from self._refusal(kind, name, {"find": NO_COLLECTION, **query})

    def _refusal(self, kind: str, name: str, command: Document) -> Iterator[tuple[tuple[str, str], str]]:
        try:
            self.connection[self.database].command({"explain": command, "verbosity": "queryPlanner"})
        except OperationFailure as error:
            reason = " ".join(str((error.details or {}).get("errmsg", error)).split())
            yield (kind, name), f"the server does not accept it: {reason}"

    def _breaking(self, collection: str, validator: Document) -> Offenders:
        return self._searched(collection, [{"$match": {"$nor": [validator]}}, {"$group": COUNTED}])

    def _repeated(self, collection: Collection, index: Index) -> Offenders:
        """Return the documents whose key another one has; values within arrays are for the server's build to find."""
        key = {f"k{number}": {"$ifNull": [f"${path}", None]} for number, (path, _) in enumerate(index.fields)}
        present = {path: {"$exists": True} for path, _ in index.fields} if index.sparse else {}
        grouped = {"_id": key, "count": {"$sum": 1}, "examples": {"$firstN": {"n": 2, "input": "$_id"}}}
        stages: list[Document] = [
            {"$match": index.partial_filter or present},
            {"$group": grouped},
            {"$match": {"count": {"$gt": 1}}},
            {"$group": {"_id": None, "count": {"$sum": "$count"}, "examples": {"$first": "$examples"}}},
        ]
        return self._searched(collection.name, stages, collation=index.collation or collection.collation)

    def _searched(self, collection: str, stages: list[Document], **options: Any) -> Offenders:
        options = {name: value for name, value in options.items() if value is not None}
        documents = self.connection[self.database][collection]
        try:
            milliseconds = int(1000 * self.search.seconds)
            found = list(documents.aggregate(stages, allowDiskUse=True, maxTimeMS=milliseconds, **options))
        except ExecutionTimeout:
            return Offenders(unknown=f"{self.search.seconds:g} s were not enough (--search-seconds gives it more time)")
        except OperationFailure as error:
            return Offenders(unknown=describe(error))
        if not found:
            return Offenders()
        return Offenders(found[0]["count"], tuple(str(_id) for _id in found[0]["examples"]))


def _filled(live: Live, collection: Collection) -> LiveCollection | None:
    present = live.collections.get(collection.name)
    return None if present is None or present.empty or present.type != "collection" else present


def _changed_indexes(declared: Declared, live: Live) -> Iterator[tuple[Collection, Index, LiveCollection]]:
    for collection in declared.collections:
        present = _filled(live, collection)
        for index in collection.indexes if present else ():
            if present and index_differs(collection, index, present):
                yield collection, index, present


def _has_changed_index(collection: Collection, present: LiveCollection) -> bool:
    return any(index_differs(collection, index, present) for index in collection.indexes)
