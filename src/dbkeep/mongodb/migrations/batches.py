"""What a migration works with: documents changed in batches, each of them a transaction with its record.

A killed run leaves whole batches and where it was, so that the next one goes on there and no document is changed twice.
Each transaction also renews the lock of the migrator, so that one that has lost it cannot write any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo import ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.read_concern import ReadConcern

from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import Client, Document
from dbkeep.mongodb.migrations.lock import RECORDS, MigrationLock

BATCH = 1000
LAG_SECONDS = 10.0
MOST_SWEEPS = 20

Change = Document | Sequence[Document]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many documents a batch has, and how far a healthy secondary may be behind before the next one."""

    batch: int = BATCH
    lag_seconds: float = LAG_SECONDS


@dataclass(slots=True)
class Batches:
    """The documents of one database for one migration; `report` is told how far it is."""

    client: Client
    database: str
    lock: MigrationLock
    migration: str
    progress: dict[str, Document]
    pace: Pace
    report: Callable[[str], None]
    _steps: int = field(default=0, init=False)

    def count(self, collection: str, where: Document) -> int:
        """Return how many documents match the query `where`."""
        return self.client[self.database][collection].count_documents(where)

    def update(self, collection: str, where: Document, change: Change) -> None:
        """Make `change` (an update or a pipeline) to every document that matches `where`, the oldest _id first.

        A changed document must not match any more: documents that are written meanwhile are found by searching until
        none is left.

        Raises DbkeepError when one matches still, or when the application keeps writing new ones that do.
        """
        step = self.progress.setdefault(str(self._steps), {"after": None, "changed": 0, "done": False})
        name, self._steps = str(self._steps), self._steps + 1
        if step["done"]:
            return
        total = step["changed"] + self.count(collection, where)
        for _ in range(MOST_SWEEPS):
            from_the_start, found = step["after"] is None, False
            while ids := self._next(collection, where, step["after"]):
                found = True
                self._batch(collection, where, change, ids=ids, step=step, name=name)
                self.report(f"{self.migration}: {collection}: {step['changed']} of {max(total, step['changed'])}")
                self._wait_for_secondaries()
            if from_the_start and not found:
                self._record({f"progress.{name}": {**step, "done": True}})
                return
            step["after"] = None
        raise DbkeepError(
            f"{collection}: new documents that the migration is about keep coming: "
            "first deploy the application that does not write them any more"
        )

    def _next(self, collection: str, where: Document, after: Any) -> list[Any]:
        query = where if after is None else {"$and": [where, {"_id": {"$gt": after}}]}
        found = self.client[self.database][collection].find(query, {"_id": 1}).sort("_id", 1).limit(self.pace.batch)
        return [document["_id"] for document in found]

    def _batch(
        self, collection: str, where: Document, change: Change, *, ids: list[Any], step: Document, name: str
    ) -> None:
        documents = self.client[self.database][collection]
        those = {"$and": [{"_id": {"$in": ids}}, where]}

        def run(session: ClientSession) -> Document:
            self.lock.renew(session)
            changed = documents.update_many(those, change, session=session).modified_count
            left = documents.find_one(those, {"_id": 1}, session=session)
            if left is not None:
                raise DbkeepError(
                    f"{collection}: _id {left['_id']} still matches after its change: see {self.migration}"
                )
            after = {"after": ids[-1], "changed": step["changed"] + changed, "done": False}
            self._records().update_one({"_id": self.migration}, {"$set": {f"progress.{name}": after}}, session=session)
            return after

        step.update(transact(self.client, run))

    def _record(self, values: Document) -> None:
        def run(session: ClientSession) -> None:
            self.lock.renew(session)
            self._records().update_one({"_id": self.migration}, {"$set": values}, session=session)

        transact(self.client, run)

    def _records(self) -> Any:
        return self.client[self.database][RECORDS]

    def _wait_for_secondaries(self) -> None:
        while (behind := slowest(self.client))[1] > self.pace.lag_seconds:
            self.report(f"{self.migration}: waits for {behind[0]}, which is {behind[1]:.0f} s behind")
            self._record({})
            time.sleep(1)


def transact(client: Client, run: Callable[[ClientSession], Any]) -> Any:
    """Return what `run` returns once most members have what it wrote; it is repeated when the primary changes."""
    with client.start_session() as session:
        return session.with_transaction(
            run,
            read_concern=ReadConcern("snapshot"),
            write_concern=WriteConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )


def slowest(client: Client) -> tuple[str, float]:
    """Return the healthy secondary that is furthest behind the primary, and by how many seconds."""
    members = client.admin.command("replSetGetStatus")["members"]
    newest = max(member["optimeDate"] for member in members if member["stateStr"] == "PRIMARY")
    behind = [
        ((newest - member["optimeDate"]).total_seconds(), str(member["name"]))
        for member in members
        if member["stateStr"] == "SECONDARY" and member["health"]
    ]
    seconds, name = max(behind, default=(0.0, ""))
    return name, seconds
