"""The migrations of a server: which are applied, applying the pending ones alone, and taking applied ones back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from dbkeep import postgresql
from dbkeep.errors import UsageError
from dbkeep.plan import Change, Plan, Risk
from dbkeep.postgresql import shape
from dbkeep.postgresql.connect import Connection, DatabaseMissingError, connect
from dbkeep.postgresql.models import MIGRATION_SCHEMA, Declared, Migration
from dbkeep.postgresql.shape import Recorded, Shape
from dbkeep.postgresql.statements import RunMigration
from dbkeep.settings import PostgreSQLSettings

APPLIED = f"SELECT migration_id, sha256, applied_at FROM {MIGRATION_SCHEMA}.digest"  # noqa: S608 - a constant
# Views that read what goes: they are declared, so that the next apply makes those anew whose tables are there.
READERS = """
SELECT DISTINCT n.nspname || '.' || v.relname
FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v' JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%s::regclass[]) AND n.nspname = ANY(%s)
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One migration: `state` is applied, pending, edited (after it was applied) or missing (its file)."""

    id: str
    state: str
    applied_at: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def status(settings: PostgreSQLSettings, declared: Declared) -> list[Entry]:
    """Return every declared or applied migration in the order of their numbers."""
    try:
        with connect(settings, declared.scope.database) as connection:
            exists = connection.execute("SELECT to_regclass('migration.digest') IS NOT NULL").fetchone() == (True,)
            rows = connection.execute(APPLIED).fetchall() if exists else []
    except DatabaseMissingError:
        rows = []
    applied = {name: (digest, when.isoformat(timespec="seconds")) for name, digest, when in rows}
    digests = {migration.id: migration.digest for migration in declared.migrations}
    return [
        Entry(name, _state(name, digests, applied), applied[name][1] if name in applied else None)
        for name in sorted({*digests, *applied})
    ]


def _state(name: str, digests: dict[str, str], applied: dict[str, tuple[str, str]]) -> str:
    if name not in applied:
        return "pending"
    if name not in digests:
        return "missing"
    return "applied" if digests[name] == applied[name][0] else "edited"


def up(
    settings: PostgreSQLSettings,
    declared: Declared,
    *,
    to: str | None = None,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Run the pending migrations of the plan, up to `to`, and return the changes made.

    Raises ApplyError when one is refused or fails, UsageError for an unknown `to` or while another apply runs.
    """
    last = _known(to, declared) if to else declared.migrations[-1].id

    def pending() -> Plan:
        every = postgresql.plan(settings, declared, {})
        return Plan(
            every.engine, tuple(c for c in every if c.kind == "shape" or (c.kind == "migration" and _runs(c, last)))
        )

    return postgresql.run(settings, declared, pending, on_change=on_change)


def _runs(change: Change, last: str) -> bool:
    return change.refused is not None or change.target <= last


def down(
    settings: PostgreSQLSettings,
    declared: Declared,
    *,
    to: str | None = None,
    allow_destructive: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Take the newest migration back, or all that are newer than `to`; return what was and what would be taken back.

    Without `allow_destructive` nothing is; each change says what it removes.

    Raises ApplyError and UsageError as `up` does, and UsageError for one that is edited, missing or not applied.
    """
    planned = rollback_plan(settings, declared, to)
    if not allow_destructive:
        return (), planned.changes
    run = postgresql.run(
        settings, declared, lambda: rollback_plan(settings, declared, to), allow_destructive=True, on_change=on_change
    )
    return run, ()


def rollback_plan(settings: PostgreSQLSettings, declared: Declared, to: str | None) -> Plan:
    """Return the changes that take migrations back, the newest first; each says what it removes."""
    entries = status(settings, declared)
    applied = [entry for entry in entries if entry.state != "pending"]
    if to:
        _known(to, declared)
        if to not in {entry.id for entry in applied}:
            raise UsageError(f"migration {to} is not applied, so nothing can be taken back to it")
    chosen = [entry for entry in applied if entry.id > to] if to else applied[-1:]
    for entry in chosen:
        if entry.state != "applied":
            raise UsageError(f"migration {entry.id} is {entry.state}: use the checkout that it was applied from")
    if not chosen:
        return Plan(postgresql.ENGINE)
    migrations = {migration.id: migration for migration in declared.migrations}
    with connect(settings, declared.scope.database) as connection:
        known = shape.history(connection)
        return Plan(
            postgresql.ENGINE,
            tuple(_back(connection, declared, migrations[entry.id], known) for entry in reversed(chosen)),
        )


def _back(connection: Connection, declared: Declared, migration: Migration, known: Sequence[Recorded]) -> Change:
    lost, tables = _lost(connection, migration.id, known)
    views = [name for (name,) in connection.execute(READERS, [tables, list(declared.scope.schemas)])] if tables else []
    removes = ", ".join([*lost, *(f"view {view}" for view in views)])
    return Change(
        engine=postgresql.ENGINE, kind="migration", target=migration.id,
        summary=f"take back: removes {removes or 'no rows'}", statement=migration.rollback, risk=Risk.DESTRUCTIVE,
        before=migration.digest,
        operation=RunMigration(
            migration, declared.scope.owner, declared.scope.protected_schemas,
            back=True, views=tuple(views),
        ),
    )  # fmt: skip


def _lost(connection: Connection, migration: str, known: Sequence[Recorded]) -> tuple[list[str], list[str]]:
    """What goes with a migration, in words, and the tables among it; known from the shapes around it."""
    after = next((entry.tables for entry in known if entry.migration == migration), None)
    older = [entry.tables for entry in known if entry.migration < migration]
    before: Shape | None = older[0] if older else {}
    if after is None or before is None:
        return ["what its script names (it was applied before shapes were recorded)"], []
    gone = sorted(after.keys() - before.keys())
    return [*_tables(connection, gone), *_columns(connection, before, after)], gone


def _tables(connection: Connection, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        rows = _count(connection, sql.SQL("SELECT count(*) FROM {}"), name)
        yield f"{name} ({rows} rows)"


def _columns(connection: Connection, before: Shape, after: Shape) -> Iterator[str]:
    for table in sorted(before.keys() & after.keys()):
        for kind, name in sorted(after[table].keys() - before[table].keys()):
            if kind == "column":
                filled = _count(connection, sql.SQL("SELECT count({column}) FROM {}"), table, name)
                yield f"{table}.{name} ({filled} values)"


def _count(connection: Connection, query: sql.SQL, table: str, column: str = "") -> int:
    counted = connection.execute(
        query.format(sql.Identifier(*table.split(".", 1)), column=sql.Identifier(column or "count"))
    )
    (count,) = counted.fetchone() or (0,)
    return int(count)


def _known(name: str, declared: Declared) -> str:
    names = [migration.id for migration in declared.migrations]
    if name not in names:
        raise UsageError(f"there is no migration {name!r}: the newest is {names[-1]}")
    return name
