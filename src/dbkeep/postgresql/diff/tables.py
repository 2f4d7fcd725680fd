"""Differences inside tables: what the newest migration left against what is there. Pure.

What can be mended without loss is mended from the recorded definition; the rest is refused with what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dbkeep.plan import Change
from dbkeep.postgresql import shape
from dbkeep.postgresql.change import MANAGED, change
from dbkeep.postgresql.inspect import Live
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.shape import Key, Part, Shape, mend
from dbkeep.postgresql.shape.mend import Mend

# Undeclared parts go first, then what others need: keys before foreign keys, columns before their indexes.
ORDER = ("rule", "trigger", "constraint", "index", "column", "table")
MENDED = ("table", "column", "p", "u", "c", "x", "f", "index", "trigger", "rule")


def tables(declared: Declared, live: Live) -> Iterator[Change]:
    """Differences between the protected tables and the shape that the newest applied migration left."""
    recorded, have = live.tables.recorded, live.tables.live
    if recorded is None:
        return
    if recorded.tables is None:
        yield _record(declared, live, recorded.migration, "record: applied before shapes were recorded")
        return
    printed = shape.same_major(recorded.version, live.version)
    differing = list(shape.differences(recorded.tables, have, printed=printed))
    changes = [
        made
        for table, key in sorted(differing, key=lambda at: _rank(recorded.tables or {}, at))
        if (made := _change(recorded.tables, live, table, key, declared))
    ]
    yield from changes
    if not printed and not changes:
        was, now = recorded.version // 10000, live.version // 10000
        yield _record(
            declared, live, recorded.migration, f"record as PostgreSQL {now} prints it: {was} recorded it",
            list(shape.differences(recorded.tables, have)),
        )  # fmt: skip


def _rank(wanted: Shape, at: tuple[str, Key]) -> tuple[bool, int]:
    table, key = at
    part = wanted.get(table, {}).get(key)
    if part is None:
        return False, ORDER.index(key[0])
    return True, MENDED.index(part.structure["type"] if key[0] == "constraint" else key[0])


def _change(wanted: Shape, live: Live, table: str, key: Key, declared: Declared) -> Change | None:
    kind, name = key
    before, after = live.tables.live.get(table, {}).get(key), wanted.get(table, {}).get(key)
    target = f"{table}: {name}" if name else table
    if table not in live.tables.live or table not in wanted:
        return _whole_table(wanted, live, table, kind, declared)
    found = _mend(table, key, before, after)
    broken = live.tables.broken.get((table, key))
    refused = found.refused or (f"{broken}: mend them first" if broken and after else None)
    if after and not refused:
        refused = _missing_columns(after, live.tables.live[table])
    return change(
        kind, target, found.summary, *found.statements, before=_shown(before), after=_shown(after), risk=found.risk,
        refused=refused, database=MANAGED, transaction=found.transaction,
    )  # fmt: skip


def _mend(table: str, key: Key, before: Part | None, after: Part | None) -> Mend:
    if after is None:
        return mend.remove(table, key)
    return {
        "table": mend.table, "column": mend.column, "constraint": mend.constraint,
        "index": mend.index, "trigger": mend.trigger, "rule": mend.rule,
    }[key[0]](table, key[1], before, after)  # fmt: skip


def _whole_table(wanted: Shape, live: Live, table: str, kind: str, declared: Declared) -> Change | None:
    """One change for a table that is gone or should not be there, unless objects.tables() and undeclared() tell it."""
    if kind != "table":
        return None
    pending = any(migration.id not in live.migrations for migration in declared.migrations)
    if table in wanted and (pending or table not in declared.tables):
        return change(
            "table", table, "missing", database=MANAGED,
            refused="a migration made it and it is not there: restore it from a backup",
        )  # fmt: skip
    if table not in wanted and table in declared.tables:
        return change(
            "table", table, "not made by a migration", database=MANAGED,
            refused="it is there and no applied migration made it: drop or rename it by hand",
        )  # fmt: skip
    return None


def _missing_columns(part: Part, there: Mapping[Key, Part]) -> str | None:
    names = [name for name in part.structure.get("columns", ()) if name != "(expression)"]
    gone = [name for name in names if ("column", name) not in there]
    return f"needs column {gone[0]}, which is missing" if gone else None


def _record(
    declared: Declared, live: Live, migration: str, summary: str, printed: Sequence[tuple[str, Key]] = ()
) -> Change:
    """`printed` are the parts that this server prints otherwise: both spellings are shown."""
    wanted, have = (live.tables.recorded.tables if live.tables.recorded else None) or {}, live.tables.live
    return change(
        "shape", migration, summary, *shape.record_as(declared.scope.owner, migration, live.version, have),
        shown="INSERT INTO migration.shape ...", database=MANAGED,
        before={f"{table}: {' '.join(key)}": dict(wanted[table][key].printed) for table, key in printed} or None,
        after={f"{table}: {' '.join(key)}": dict(have[table][key].printed) for table, key in printed} or sorted(have),
    )  # fmt: skip


def _shown(part: Part | None) -> dict[str, Any] | None:
    if part is None:
        return None
    definition = part.printed.get("definition")
    return {"definition": definition, **part.structure} if definition else {**asdict(part)["structure"], **part.printed}
