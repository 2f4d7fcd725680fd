"""Counts the rows that stand in the way of a constraint, a NOT NULL or a unique index, and names some by their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.shape import Key, Part

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Broken:
    """How many rows break a part, and the primary keys of the first of them."""

    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        rows = "1 row breaks" if self.count == 1 else f"{self.count} rows break"
        return f"{rows} it, such as {', '.join(self.examples)}"


def find(connection: Connection, table: str, key: Key, parts: Mapping[Key, Part]) -> Broken | None:
    """Return the rows of `table` that break the part `key` of `parts`, or None when no row does or none can."""
    rows = _rows(table, key, parts[key])
    if rows is None:
        return None
    query = sql.SQL("WITH broken AS ({}) SELECT (SELECT count(*) FROM broken), ARRAY(SELECT key FROM broken LIMIT {})")
    count, examples = connection.execute(
        query.format(rows.format(key=_row_key(parts)), sql.Literal(EXAMPLES))
    ).fetchone() or (0, [])
    return Broken(count, tuple(examples)) if count else None


def _row_key(parts: Mapping[Key, Part]) -> sql.Composable:
    """What names a row: its primary key, which identifies no person, or where it lies."""
    for part in parts.values():
        if part.structure.get("type") == "p":
            names = [sql.SQL("{}::text").format(sql.Identifier("t", name)) for name in part.structure["columns"]]
            return sql.SQL("concat_ws(' ', {})").format(sql.SQL(", ").join(names))
    return sql.SQL("t.ctid::text")


def _rows(table: str, key: Key, part: Part) -> sql.SQL | None:
    """The query of the broken rows; {key} stands for what names one."""
    of = _qualified(table)
    structure, printed = part.structure, part.printed
    if key[0] == "column":
        return _where(of, f"t.{_quoted(key[1])} IS NULL")
    if key[0] == "index":
        return _twice(of, printed["keys"], structure, printed["predicate"])
    if structure["type"] == "c":
        return _where(of, f"NOT ({printed['expression']})")
    if structure["type"] == "f":
        pairs = zip(structure["columns"], structure["referenced"], strict=True)
        match = " AND ".join(f"f.{_quoted(theirs)} = t.{_quoted(ours)}" for ours, theirs in pairs)
        there = _qualified(structure["references"])
        present = " AND ".join(f"t.{_quoted(name)} IS NOT NULL" for name in structure["columns"])
        return _where(of, f"{present} AND NOT EXISTS (SELECT FROM {there} f WHERE {match})")
    if structure["type"] in "pu":
        return _twice(of, [_quoted(name) for name in structure["columns"]], structure, None)
    return None


def _twice(of: str, keys: Sequence[str], structure: Mapping[str, Any], predicate: str | None) -> sql.SQL:
    nulls = [] if structure.get("nulls_distinct") is False else [f"({key}) IS NOT NULL" for key in keys]
    where = " AND ".join([*nulls, *([f"({predicate})"] if predicate else [])]) or "true"
    listed = ", ".join(f"({key})" for key in keys)
    return sql.SQL(
        f"SELECT key FROM (SELECT {{key}} AS key, count(*) OVER (PARTITION BY {_braces(listed)}) AS same"  # noqa: S608
        f" FROM {_braces(of)} t WHERE {_braces(where)}) counted WHERE same > 1"
    )


def _where(of: str, condition: str) -> sql.SQL:
    return sql.SQL(f"SELECT {{key}} AS key FROM {_braces(of)} t WHERE {_braces(condition)}")  # noqa: S608


def _braces(text: str) -> str:
    """Text of the catalogs inside a composable's template."""
    return text.replace("{", "{{").replace("}", "}}")


def _qualified(name: str) -> str:
    return sql.Identifier(*name.split(".", 1)).as_string(None)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)
