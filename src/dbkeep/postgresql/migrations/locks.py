"""What each statement of a migration locks, and whom that holds up: remarks for the one who reviews it.

The modes are those of the manual, 13.3 "Explicit Locking", as far as statements of migrations need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dbkeep.plan import Risk
from dbkeep.postgresql import source
from dbkeep.postgresql.source import NAME

TABLE = rf"(?:ONLY )?({NAME}\.{NAME})"
CREATED = re.compile(rf"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?({NAME}\.{NAME})", re.IGNORECASE)
REFERENCED = re.compile(rf"\bREFERENCES ({NAME}\.{NAME})", re.IGNORECASE)

NOTHING = "no lock on a table"
READERS = "ACCESS EXCLUSIVE on {table}: reads and writes wait"
WRITERS = "SHARE on {table}: writes wait, reads go on"
STRONG = "SHARE ROW EXCLUSIVE on {table}: writes wait, reads go on"
NOBODY = "SHARE UPDATE EXCLUSIVE on {table}: reads and writes go on"
ROWS = "ROW EXCLUSIVE on {table}: only the rows it changes are locked"

# The first form that matches a statement on one line says the lock.
FORMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(form, re.IGNORECASE | re.DOTALL), remark)
    for form, remark in (
        (rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY .*? ON {TABLE}", NOBODY),
        (rf"CREATE (?:UNIQUE )?INDEX .*? ON {TABLE}", WRITERS),
        (rf"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER .*? ON {TABLE}", STRONG),
        (rf"ALTER TABLE {TABLE} (?:ENABLE|DISABLE) (?:(?:REPLICA|ALWAYS) )?TRIGGER", STRONG),
        (rf"ALTER TABLE (?:IF EXISTS )?{TABLE} VALIDATE CONSTRAINT", NOBODY),
        (rf"ALTER TABLE (?:IF EXISTS )?{TABLE} (?:SET|RESET) \(", NOBODY),
        (rf"ALTER TABLE (?:IF EXISTS )?{TABLE} ADD (?:CONSTRAINT \S+ )?FOREIGN KEY", STRONG),
        (
            rf"ALTER TABLE (?:IF EXISTS )?{TABLE} ALTER (?:COLUMN )?\S+ (?:SET DATA )?TYPE",
            f"{READERS}, maybe while all rows are rewritten",
        ),
        (rf"ALTER TABLE (?:IF EXISTS )?{TABLE}", READERS),
        (
            r"DROP INDEX CONCURRENTLY (?:IF EXISTS )?(\S+)",
            "SHARE UPDATE EXCLUSIVE on the table of {table}: reads and writes go on",
        ),
        (r"DROP INDEX (?:IF EXISTS )?(\S+)", "ACCESS EXCLUSIVE on the table of {table}: reads and writes wait"),
        (rf"DROP TRIGGER .*? ON {TABLE}", READERS),
        (rf"DROP TABLE (?:IF EXISTS )?{TABLE}", f"{READERS}, as on each table that it references"),
        (rf"TRUNCATE (?:TABLE )?{TABLE}", READERS),
        (rf"(?:INSERT INTO|UPDATE|DELETE FROM) {TABLE}", ROWS),
    )
)  # fmt: skip


class Remark(NamedTuple):
    """The line and the first words of a statement, and what it locks."""

    line: int
    head: str
    locks: str


def remarks(script: str, path: str) -> Iterator[Remark]:
    """Yield a remark for each statement of a script. Locks on tables that the script itself makes hold up nobody."""
    own: set[str] = set()
    for statement in source.split(script, path):
        found = [*_locks(statement.flat, own)]
        if match := CREATED.match(statement.flat):
            own.add(match[1])
        yield Remark(statement.line, " ".join(statement.flat.split(" (")[0].split()[:6]), "; ".join(found) or NOTHING)


def risk(script: str, path: str) -> Risk:
    """Return what running a script may cost those who use the tables meanwhile."""
    told = [remark.locks for remark in remarks(script, path)]
    if any("rewritten" in locks for locks in told):
        return Risk.REWRITING
    return Risk.LOCKING if any("wait" in locks for locks in told) else Risk.SAFE


def _locks(flat: str, own: set[str]) -> Iterator[str]:
    for form, remark in FORMS:
        match = form.match(flat)
        if match:
            if match[1] not in own:
                yield remark.format(table=match[1])
            break
    for match in REFERENCED.finditer(flat):
        if match[1] not in own:
            yield STRONG.format(table=match[1])
