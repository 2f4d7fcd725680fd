"""The migrations of a database: which are applied, running the pending ones, and taking applied ones back."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from types import ModuleType
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import ConnectionFailure, PyMongoError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb import connect as _connect
from dbkeep.mongodb.batches import Batches, Pace, transact
from dbkeep.mongodb.connect import Client, Document
from dbkeep.mongodb.migration_lock import RECORDS, MigrationLock
from dbkeep.mongodb.models import Declared, Migration
from dbkeep.mongodb.statements import ENGINE
from dbkeep.plan import Change, Plan, Risk
from dbkeep.plan import apply as apply_plan
from dbkeep.settings import MongoDBSettings

OnChange = Callable[[Change], None]
Report = Callable[[str], None]


def _quiet(_: Any) -> None:
    """Say nothing of what goes on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One migration: `state` is applied, pending, edited (after it was applied) or missing (its file).

    One that was interrupted is pending on the way up, and applied still on the way down.
    """

    id: str
    state: str
    applied_at: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def status(settings: MongoDBSettings, declared: Declared) -> list[Entry]:
    """Return every declared or applied migration in the order of their numbers."""
    with _connect.connect(settings) as connection:
        return _entries(declared, _applied(connection, declared.database))


def up(
    settings: MongoDBSettings,
    declared: Declared,
    *,
    to: str | None = None,
    on_change: OnChange = _quiet,
    report: Report = _quiet,
    pace: Pace = Pace(),  # noqa: B008 - frozen
) -> tuple[Change, ...]:
    """Run the pending migrations in order, up to `to`, and return the changes made. `report` is told how far it is.

    Raises ApplyError when one is refused or fails, UsageError for an unknown `to` or while another one migrates. What
    was interrupted goes on where it was.
    """
    if to is not None:
        _known(to, declared)

    def pending(connection: Client, lock: MigrationLock) -> Plan:
        records = _applied(connection, declared.database)
        migrations = {migration.id: migration for migration in declared.migrations}
        run = partial(_run, connection, lock=lock, database=declared.database, pace=pace, report=report)
        changes = []
        for entry in _entries(declared, records):
            if entry.state == "pending" and (to is None or entry.id <= to):
                changes.append(_change(migrations[entry.id], run, back=False))
            elif entry.state in {"edited", "missing"} or records.get(entry.id, {}).get("back"):
                changes.append(_refusal(entry, back=bool(records[entry.id].get("back"))))
        return Plan(ENGINE, tuple(changes))

    return _locked(settings, declared, pending, on_change=on_change, report=report)


def down(
    settings: MongoDBSettings,
    declared: Declared,
    *,
    to: str | None = None,
    allow_destructive: bool = False,
    on_change: OnChange = _quiet,
    report: Report = _quiet,
    pace: Pace = Pace(),  # noqa: B008 - frozen
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Take the newest migration back, or all that are newer than `to`; return what was and what would be taken back.

    Raises ApplyError and UsageError as `up` does, and UsageError for one that is edited, missing or not applied.
    """

    def applied(connection: Client, lock: MigrationLock) -> Plan:
        run = partial(_run, connection, lock=lock, database=declared.database, pace=pace, report=report)
        chosen = _chosen(declared, _applied(connection, declared.database), to)
        return Plan(ENGINE, tuple(_change(migration, run, back=True) for migration in chosen))

    if not allow_destructive:
        with _connect.connect(settings) as connection:
            return (), applied(connection, MigrationLock(connection, declared.database, report)).changes
    made = _locked(settings, declared, applied, on_change=on_change, report=report, allow_destructive=True)
    return made, ()


def _locked(
    settings: MongoDBSettings,
    declared: Declared,
    planned: Callable[[Client, MigrationLock], Plan],
    *,
    on_change: OnChange,
    report: Report,
    allow_destructive: bool = False,
) -> tuple[Change, ...]:
    with _connect.connect(settings) as connection, MigrationLock(connection, declared.database, report) as lock:

        def execute(change: Change) -> None:
            change.operation()

        return apply_plan(planned(connection, lock), execute, allow_destructive=allow_destructive, on_change=on_change)


def _applied(connection: Client, database: str) -> dict[str, Document]:
    """Return the records of migrations that are applied, or were until somebody began to take them back."""
    return {record["_id"]: record for record in connection[database][RECORDS].find({"applied_at": {"$type": "date"}})}


def _entries(declared: Declared, records: dict[str, Document]) -> list[Entry]:
    digests = {migration.id: migration.digest for migration in declared.migrations}

    def state(name: str) -> str:
        if name not in records:
            return "pending"
        if name not in digests:
            return "missing"
        return "applied" if digests[name] == records[name]["sha256"] else "edited"

    def applied_at(name: str) -> str | None:
        return (
            records[name]["applied_at"].replace(tzinfo=UTC).isoformat(timespec="seconds") if name in records else None
        )

    return [Entry(name, state(name), applied_at(name)) for name in sorted({*digests, *records})]


def _chosen(declared: Declared, records: dict[str, Document], to: str | None) -> list[Migration]:
    applied = [entry for entry in _entries(declared, records) if entry.state != "pending"]
    if to is not None:
        _known(to, declared)
        if to not in {entry.id for entry in applied}:
            raise UsageError(f"migration {to} is not applied, so nothing can be taken back to it")
    chosen = [entry for entry in applied if entry.id > to] if to is not None else applied[-1:]
    for entry in chosen:
        if entry.state != "applied":
            raise UsageError(f"migration {entry.id} is {entry.state}: use the checkout that it was applied from")
    migrations = {migration.id: migration for migration in declared.migrations}
    return [migrations[entry.id] for entry in reversed(chosen)]


def _known(name: str, declared: Declared) -> None:
    names = [migration.id for migration in declared.migrations]
    if name not in names:
        newest = f"the newest is {names[-1]}" if names else "mongo/migrations has none"
        raise UsageError(f"there is no migration {name!r}: {newest}")


def _change(migration: Migration, run: Callable[..., None], *, back: bool) -> Change:
    return Change(
        engine=ENGINE,
        kind="migration",
        target=migration.id,
        summary=f"take back: {migration.summary}" if back else migration.summary,
        statement=migration.source,
        operation=partial(run, migration, back=back),
        before=migration.digest if back else None,
        after=None if back else migration.digest,
        risk=Risk.DESTRUCTIVE if back else Risk.REWRITING,
    )


def _refusal(entry: Entry, *, back: bool) -> Change:
    reason = f"it is {entry.state} since it was applied: use the checkout that it was applied from"
    if back:
        reason = "taking it back was interrupted: run `migrate down` again first"
    return Change(ENGINE, "migration", entry.id, "cannot go on", "", None, refused=reason)


def _run(
    connection: Client,
    migration: Migration,
    *,
    lock: MigrationLock,
    database: str,
    pace: Pace,
    report: Report,
    back: bool,
) -> None:
    """Run one migration, or take it back, and record it; a failure leaves whole batches and where it was."""
    records = connection[database][RECORDS]
    record = records.find_one({"_id": migration.id}) or {}
    same = record.get("sha256") == migration.digest and bool(record.get("back")) is back
    progress: dict[str, Document] = record.get("progress", {}) if same and not _is_whole(record) else {}
    begun = {"sha256": migration.digest, "back": back, "progress": progress}

    def begin(session: ClientSession) -> None:
        lock.renew(session)
        records.update_one({"_id": migration.id}, {"$set": begun}, upsert=True, session=session)

    def end(session: ClientSession) -> None:
        lock.renew(session)
        if back:
            records.delete_one({"_id": migration.id}, session=session)
        else:
            applied = {"applied_at": datetime.now(UTC)}
            records.update_one({"_id": migration.id}, {"$set": applied, "$unset": {"back": ""}}, session=session)

    documents = Batches(connection, database, lock, migration.id, progress, pace, report)
    try:
        transact(connection, begin)
        module = _module(migration)
        if back:
            module.down(documents)
        else:
            module.up(documents)
            left = module.verify(documents)
            if left:
                raise DbkeepError(f"verify finds {left} documents that are not as it leaves them; run it again")
        transact(connection, end)
    except DbkeepError as error:
        raise DbkeepError(f"{migration.path}: {error}") from None
    except PyMongoError as error:
        raise DbkeepError(f"{migration.path}: {_describe(error)}") from None
    except Exception as error:
        raise DbkeepError(f"{migration.path}:{_line(error, migration)}: {type(error).__name__}: {error}") from None


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
