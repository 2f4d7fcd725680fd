"""The protected tables: as they are, as the newest migration left them, and the rows that break what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dbkeep.postgresql import shape
from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.shape import Key, Recorded, Shape, broken_rows
from dbkeep.postgresql.shape.broken_rows import Broken


@dataclass(frozen=True, slots=True)
class Tables:
    """`recorded` is None when no migration is applied. `broken` tells of the parts that rows stand in the way of."""

    live: Shape = field(default_factory=dict)
    recorded: Recorded | None = None
    broken: Mapping[tuple[str, Key], Broken] = field(default_factory=dict)


def read(connection: Connection, schemas: Sequence[str]) -> Tables:
    """Return the tables of `schemas`: three queries, and one for each missing part that rows could break."""
    live = shape.live(connection, schemas)
    newest = next(iter(shape.history(connection)), None)
    if newest is None or newest.tables is None:
        return Tables(live, newest)
    broken = {at: found for at, found in _broken(connection, live, newest) if found}
    return Tables(live, newest, broken)


def _broken(connection: Connection, live: Shape, recorded: Recorded) -> Iterator[tuple[tuple[str, Key], Broken | None]]:
    wanted = recorded.tables or {}
    printed = shape.same_major(recorded.version, connection.info.server_version)
    for table, key in shape.differences(wanted, live, printed=printed):
        part = wanted.get(table, {}).get(key)
        if part is None or table not in live or not _can_be_broken(key, part.structure):
            continue
        if all(name in live.get(of, {}) for of, name in _columns(table, key, part.structure)):
            yield (table, key), broken_rows.find(connection, table, key, wanted[table])


def _can_be_broken(key: Key, structure: Mapping[str, object]) -> bool:
    kind, _ = key
    return (
        kind == "constraint"
        or (kind == "column" and structure["not_null"] is True)
        or (kind == "index" and structure["unique"] is True)
    )


def _columns(table: str, key: Key, structure: Mapping[str, object]) -> Iterator[tuple[str, Key]]:
    """The columns that must be there for the rows to be counted."""
    if key[0] == "column":
        yield table, key
    for listed, of in (("columns", table), ("referenced", str(structure.get("references")))):
        for name in structure.get(listed) or ():  # type: ignore[attr-defined]
            if name != "(expression)":
                yield of, ("column", name)
