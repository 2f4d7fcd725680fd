"""One document that only one migrator can hold at a time, for as long as it keeps renewing it.

Time is the server's ($$NOW), so that clocks of hosts do not matter.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, Document

# The one collection of the managed database that is dbkeep's own: it has to be in the backup of what it speaks of.
RECORDS = "dbkeep_migrations"
LOCK = "lock"
LEASE_SECONDS = 30


class MigrationLock:
    """The lock of one database's migrations; `with` takes and frees it.

    Entering waits for the lock of a migrator that does not renew it any more, and raises UsageError while one does.
    """

    def __init__(self, client: Client, database: str, report: Callable[[str], None]) -> None:
        self._client, self._records = client, client[database][RECORDS]
        self._owner, self._report = secrets.token_hex(8), report

    def __enter__(self) -> MigrationLock:
        seen: datetime | None = None
        while not self._take():
            held = self._records.find_one({"_id": LOCK})
            if held is None:
                continue
            if seen is not None and held["until"] != seen:
                raise UsageError(
                    f"{_name(held)} is migrating this database: wait for it and run the same command again"
                )
            if seen is None:
                self._report(f"waits up to {LEASE_SECONDS} s for the lock of {_name(held)}")
            seen = held["until"]
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self._records.delete_one({"_id": LOCK, "owner": self._owner})

    def renew(self, session: ClientSession) -> None:
        """Hold the lock for another lease within the transaction of `session`; raises DbkeepError when it is lost."""
        held = self._records.update_one({"_id": LOCK, "owner": self._owner}, self._lease(), session=session)
        if held.matched_count == 0:
            raise DbkeepError("lost the lock: another migrator took over; see dbkeep migrate status")

    def _take(self) -> bool:
        ended = {"_id": LOCK, "$expr": {"$lt": ["$until", "$$NOW"]}}
        if self._records.update_one(ended, self._lease()).matched_count:
            return True
        try:
            self._records.update_one({"_id": LOCK, "owner": self._owner}, self._lease(), upsert=True)
        except DuplicateKeyError:
            return False
        return True

    def _lease(self) -> list[Document]:
        until: Any = {"$add": ["$$NOW", 1000 * LEASE_SECONDS]}
        return [{"$set": {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid(), "until": until}}]


def _name(held: Document) -> str:
    return f"process {held['pid']} on {held['host']}"
