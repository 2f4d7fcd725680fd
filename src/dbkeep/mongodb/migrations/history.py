"""The migrations of a database: which are applied, applying the pending ones alone, and taking applied ones back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import Any

from dbkeep import mongodb
from dbkeep.errors import UsageError
from dbkeep.mongodb import inspect
from dbkeep.mongodb.connect import connect
from dbkeep.mongodb.diff.migrations import migration_changes, taken_back
from dbkeep.mongodb.inspect import LiveMigration
from dbkeep.mongodb.migrations.batches import Pace
from dbkeep.mongodb.models import Declared, Migration
from dbkeep.mongodb.statements import ENGINE
from dbkeep.plan import Change, Plan
from dbkeep.settings import MongoDBSettings


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
    with connect(settings) as connection:
        return _entries(declared, inspect.migrations(connection, settings.database))


def up(
    settings: MongoDBSettings,
    declared: Declared,
    *,
    to: str | None = None,
    on_change: mongodb.OnChange = mongodb.quiet,
    report: mongodb.Report = mongodb.quiet,
    pace: Pace = Pace(),  # noqa: B008 - frozen
) -> tuple[Change, ...]:
    """Run the pending migrations of the plan, up to `to`, and return the changes made. `report` is told how far it is.

    Raises ApplyError when one is refused or fails, UsageError for an unknown `to` or while another one migrates. What
    was interrupted goes on where it was.
    """
    if to is not None:
        _known(to, declared)
    with connect(settings) as connection:
        applied = inspect.migrations(connection, settings.database)
        changes = migration_changes(declared, applied, inspect.collections(connection, settings.database))
        planned = Plan(ENGINE, tuple(c for c in changes if c.refused or to is None or c.target <= to))
        return mongodb.run(connection, settings, planned, on_change=on_change, report=report, pace=pace)


def down(
    settings: MongoDBSettings,
    declared: Declared,
    *,
    to: str | None = None,
    allow_destructive: bool = False,
    on_change: mongodb.OnChange = mongodb.quiet,
    report: mongodb.Report = mongodb.quiet,
    pace: Pace = Pace(),  # noqa: B008 - frozen
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Take the newest migration back, or all that are newer than `to`; return what was and what would be taken back.

    Raises ApplyError and UsageError as `up` does, and UsageError for one that is edited, missing or not applied.
    """
    with connect(settings) as connection:
        chosen = _chosen(declared, inspect.migrations(connection, settings.database), to)
        planned = Plan(ENGINE, tuple(map(taken_back, chosen)))
        if not allow_destructive:
            return (), planned.changes
        return mongodb.run(
            connection, settings, planned, allow_destructive=True, on_change=on_change, report=report, pace=pace
        ), ()


def _entries(declared: Declared, applied: Mapping[str, LiveMigration]) -> list[Entry]:
    digests = {migration.id: migration.digest for migration in declared.migrations}

    def state(name: str) -> str:
        if name not in applied:
            return "pending"
        if name not in digests:
            return "missing"
        return "applied" if digests[name] == applied[name].digest else "edited"

    def applied_at(name: str) -> str | None:
        found = applied.get(name)
        return found.applied_at.replace(tzinfo=UTC).isoformat(timespec="seconds") if found else None

    return [Entry(name, state(name), applied_at(name)) for name in sorted({*digests, *applied})]


def _chosen(declared: Declared, live: Mapping[str, LiveMigration], to: str | None) -> list[Migration]:
    applied = [entry for entry in _entries(declared, live) if entry.state != "pending"]
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
