"""Runs one migration, or takes it back, and records it. Two runs cannot meet: whoever migrates holds the lock."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType

from pymongo.client_session import ClientSession
from pymongo.errors import ConnectionFailure, PyMongoError

from dbkeep.errors import DbkeepError
from dbkeep.mongodb import connect as _connect
from dbkeep.mongodb.connect import Client, Document
from dbkeep.mongodb.migrations.batches import Batches, Pace, transact
from dbkeep.mongodb.migrations.lock import RECORDS, MigrationLock
from dbkeep.mongodb.models import Migration
from dbkeep.mongodb.statements import RunMigration


@dataclass(frozen=True, slots=True)
class Migrator:
    """Runs migrations on one database; `report` is told how far each is."""

    connection: Client
    database: str
    lock: MigrationLock
    pace: Pace
    report: Callable[[str], None]

    def run(self, operation: RunMigration) -> None:
        """Run one migration, or take it back, and record it; a failure leaves whole batches and where it was.

        Raises DbkeepError with file, line and reason. What another migrator did before the lock was free is not done
        again.
        """
        migration, back = operation.migration, operation.back
        records = self.connection[self.database][RECORDS]
        record = records.find_one({"_id": migration.id}) or {}
        if _is_done(record, operation):
            return
        same = record.get("sha256") == migration.digest and bool(record.get("back")) is back
        progress: dict[str, Document] = record.get("progress", {}) if same and not _is_whole(record) else {}
        begun = {"sha256": migration.digest, "back": back, "progress": progress}

        def begin(session: ClientSession) -> None:
            self.lock.renew(session)
            records.update_one({"_id": migration.id}, {"$set": begun}, upsert=True, session=session)

        def end(session: ClientSession) -> None:
            self.lock.renew(session)
            if back:
                records.delete_one({"_id": migration.id}, session=session)
            else:
                applied = {"applied_at": datetime.now(UTC)}
                records.update_one({"_id": migration.id}, {"$set": applied, "$unset": {"back": ""}}, session=session)

        documents = Batches(
            self.connection, self.database, self.lock, migration.id, progress, self.pace, self.report
        )  # fmt: skip
        try:
            transact(self.connection, begin)
            _call(operation, documents)
            transact(self.connection, end)
        except DbkeepError as error:
            raise DbkeepError(f"{migration.path}: {error}") from None
        except PyMongoError as error:
            raise DbkeepError(f"{migration.path}: {_describe(error)}") from None
        except Exception as error:
            raise DbkeepError(f"{migration.path}:{_line(error, migration)}: {type(error).__name__}: {error}") from None


def _call(operation: RunMigration, documents: Batches) -> None:
    module = _module(operation.migration)
    if operation.back:
        module.down(documents)
        return
    module.up(documents)
    left = module.verify(documents)
    if left:
        raise DbkeepError(f"verify finds {left} documents that are not as it leaves them; run it again")


def _is_done(record: Document, operation: RunMigration) -> bool:
    if operation.back:
        return not record
    return _is_whole(record) and record["sha256"] == operation.migration.digest


def _is_whole(record: Document) -> bool:
    """Return whether a record is of a migration that ended, whose steps are no steps of another run."""
    return bool(record.get("applied_at")) and not record.get("back")


def _module(migration: Migration) -> ModuleType:
    module = ModuleType(f"migration_{migration.id}")
    exec(compile(migration.source, migration.path, "exec"), module.__dict__)  # noqa: S102 - declared in this checkout
    return module


def _line(error: Exception, migration: Migration) -> int:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == migration.path]
    return next((line for line in reversed(lines) if line), 0)


def _describe(error: PyMongoError) -> str:
    details = getattr(error, "details", None) or {}
    refused = next(iter(details.get("writeErrors", [])), details)
    document = refused.get("errInfo", {}).get("failingDocumentId")
    if document is None:
        again = "; run the same command again to go on" if isinstance(error, ConnectionFailure) else ""
        return _connect.describe(error) + again
    return f"the validator refuses what it makes of _id {document}; apply the one that allows it first"
