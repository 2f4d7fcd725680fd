"""The shape of tables: what the server's catalogs say of their columns, constraints, indexes, triggers and rules.

A migration's shape is recorded beside its digest, so that what differs now is known without running it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.models import MIGRATION_SCHEMA
from dbkeep.postgresql.shape.catalog import SHAPE

SHAPE_TABLE = f"""
CREATE TABLE IF NOT EXISTS {MIGRATION_SCHEMA}.shape (
    migration_id text PRIMARY KEY REFERENCES {MIGRATION_SCHEMA}.digest ON DELETE CASCADE,
    server_version integer NOT NULL, whole boolean NOT NULL, tables jsonb NOT NULL
)
"""
RECORD = f"""
INSERT INTO {MIGRATION_SCHEMA}.shape (migration_id, server_version, whole, tables) VALUES ({{}}, {{}}, {{}}, {{}})
ON CONFLICT (migration_id) DO UPDATE
SET server_version = excluded.server_version, whole = excluded.whole, tables = excluded.tables
"""  # noqa: S608 - a constant
RECORDED = f"""
SELECT d.migration_id, s.server_version, s.whole, s.tables
FROM {MIGRATION_SCHEMA}.digest d LEFT JOIN {MIGRATION_SCHEMA}.shape s USING (migration_id)
ORDER BY d.migration_id
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Part:
    """One thing about a table. `structure` reads alike in every version of the server, `printed` is its spelling."""

    structure: Mapping[str, Any]
    printed: Mapping[str, Any] = field(default_factory=dict)


# A part's kind and name: ("column", "id"), ("index", "users_created_at_idx"), ("table", "").
Key = tuple[str, str]
Shape = Mapping[str, Mapping[Key, Part]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The shape after `migration`; `tables` is None when it was applied before shapes were recorded."""

    migration: str
    version: int = 0
    tables: Shape | None = None


def live(connection: Connection, schemas: Sequence[str]) -> Shape:
    """Return the shape of every table in `schemas`, read in one query. The search path must be empty."""
    found: dict[str, dict[Key, Part]] = {}
    for table, kind, name, structure, printed in connection.execute(SHAPE, {"schemas": list(schemas)}):
        found.setdefault(table, {})[kind, name] = Part(structure, printed)
    return found


def history(connection: Connection) -> list[Recorded]:
    """Return what is recorded of the applied migrations, the newest first."""
    exist = "SELECT to_regclass('migration.digest') IS NOT NULL, to_regclass('migration.shape') IS NOT NULL"
    digests, shapes = connection.execute(exist).fetchone() or (False, False)
    if not digests:
        return []
    if not shapes:
        names = connection.execute(f"SELECT migration_id FROM {MIGRATION_SCHEMA}.digest ORDER BY 1 DESC")  # noqa: S608
        return [Recorded(name) for (name,) in names]
    return list(_merged(connection.execute(RECORDED)))[::-1]


def _merged(rows: Iterable[tuple[Any, ...]]) -> Iterator[Recorded]:
    """A row holds the tables that its migration changed (null: dropped), or all of them."""
    known: Shape | None = {}
    for migration, version, whole, tables in rows:
        if tables is None or (known is None and not whole):
            known = None
        else:
            changed = {name: None if parts is None else _parts(parts) for name, parts in tables.items()}
            merged = {**({} if whole else known or {}), **changed}
            known = {name: parts for name, parts in merged.items() if parts is not None}
        yield Recorded(migration, version or 0, known)


def record(migration: str, version: int, shape: Shape, before: Recorded | None = None) -> sql.Composed:
    """Return the statement that records `shape`, as server `version` prints it, beside the digest of `migration`.

    Only what differs from `before` is written, unless another major version printed that or nothing is known of it.
    """
    whole = before is not None and (before.tables is None or not same_major(before.version, version))
    old: Shape = {} if whole or before is None else before.tables or {}
    changed = {
        name: None if name not in shape else _as_json(shape[name])
        for name in {*shape, *old}
        if shape.get(name) != old.get(name)
    }
    values = (migration, version, whole, Jsonb(changed))
    return sql.SQL(RECORD).format(*map(sql.Literal, values))


def record_as(owner: str, migration: str, version: int, shape: Shape) -> tuple[sql.SQL | sql.Composed, ...]:
    """Return the statements that make the table of shapes if there is none, as `owner`, and record all of `shape`."""
    become = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner))
    return become, sql.SQL(SHAPE_TABLE), record(migration, version, shape, Recorded(migration))


def same_major(one: int, other: int) -> bool:
    return one // 10000 == other // 10000


def differences(wanted: Shape, have: Shape, *, printed: bool = True) -> Iterator[tuple[str, Key]]:
    """Yield the table and part of each difference; without `printed` only what reads alike in every version counts."""
    for table in sorted({*wanted, *have}):
        here, there = wanted.get(table, {}), have.get(table, {})
        for key in sorted({*here, *there}):
            if not same(here.get(key), there.get(key), printed=printed):
                yield table, key


def same(wanted: Part | None, have: Part | None, *, printed: bool = True) -> bool:
    if wanted is None or have is None:
        return wanted is have
    return wanted.structure == have.structure and (not printed or wanted.printed == have.printed)


def _as_json(parts: Mapping[Key, Part]) -> list[list[Any]]:
    return [[kind, name, part.structure, part.printed] for (kind, name), part in parts.items()]


def _parts(value: Sequence[Sequence[Any]]) -> Mapping[Key, Part]:
    return {(kind, name): Part(structure, printed) for kind, name, structure, printed in value}
