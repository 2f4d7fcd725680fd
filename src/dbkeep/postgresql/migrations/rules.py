"""What a migration's files must keep to, so that a killed or repeated run is harmless. Read before anything runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dbkeep.errors import DeclaredError
from dbkeep.postgresql import source
from dbkeep.postgresql.source import NAME, Statement

FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+")
# yoyo reads directives in the comment that the script begins with.
DIRECTIVE = re.compile(r"^\s*--\s*(transactional|depends)\s*:\s*(.*?)\s*$", re.MULTILINE)
COMMENT = re.compile(r"(?:\s*--[^\n]*\n|\s*\n)*")
BUILD = re.compile(
    rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY {NAME} ON (?:ONLY )?{NAME}\.{NAME}\b.*", re.IGNORECASE | re.DOTALL
)
DROP = re.compile(rf"DROP INDEX CONCURRENTLY IF EXISTS {NAME}\.{NAME}", re.IGNORECASE)
# dbkeep opens and ends the transaction and limits the wait for locks.
OURS = re.compile(
    r"(BEGIN|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|START TRANSACTION|PREPARE TRANSACTION|RELEASE|SET (LOCAL |SESSION )?"
    r"(lock_timeout|role|search_path|session authorization)|RESET)\b",
    re.IGNORECASE,
)
FORMS = "CREATE INDEX CONCURRENTLY name ON schema.table or DROP INDEX CONCURRENTLY IF EXISTS schema.name"


class Concurrent(NamedTuple):
    """The index, by qualified name, that a script outside a transaction builds or drops."""

    schema: str
    name: str
    build: bool


def transactional(script: str) -> bool:
    """Return whether the script runs in a transaction, which is so unless it begins with `-- transactional: false`."""
    return dict(_directives(script)).get("transactional", "true").lower() != "false"


def concurrent(statement: str) -> Concurrent | None:
    """Return what a statement on one line builds or drops CONCURRENTLY, or None for any other statement."""
    if match := BUILD.fullmatch(statement):
        return Concurrent(match[2], match[1], build=True)
    if match := DROP.fullmatch(statement):
        return Concurrent(match[1], match[2], build=False)
    return None


def check_order(paths: Sequence[Path]) -> None:
    """Raise DeclaredError for a name, number or rollback script that does not fit `paths`, all of one folder."""
    scripts = [path for path in paths if not path.name.endswith(".rollback.sql")]
    for expected, path in enumerate(scripts, 1):
        match = FILE_NAME.fullmatch(path.stem)
        if match is None:
            raise DeclaredError("a migration's name is four digits, _ and words, as in 0001_users.sql", path=path)
        number = int(match[1])
        if number < expected:
            raise DeclaredError(f"two migrations have the number {number:04}: give this one the next free", path=path)
        if number > expected:
            raise DeclaredError(f"there is no migration {expected:04} before it: number them without gaps", path=path)
        if path.with_suffix(".rollback.sql") not in paths:
            raise DeclaredError(f"has no rollback script: add {path.stem}.rollback.sql", path=path)
    for path in paths:
        forward = path.with_name(path.name.replace(".rollback.sql", ".sql"))
        if forward not in paths:
            raise DeclaredError(f"takes back a migration that is not there: {forward.name}", path=path)


def check_scripts(forward: Path, rollback: Path) -> None:
    """Raise DeclaredError with file and line for what a migration's two scripts must not hold."""
    inside = _check_directives(forward)
    if _directives(source.read_text(rollback)):
        raise DeclaredError("a rollback script runs as its migration does: no directive here", path=rollback, line=1)
    for path in (forward, rollback):
        found = list(source.statements(path))
        if not found:
            raise DeclaredError("holds no statement", path=path, line=1)
        for statement in found:
            _check_statement(statement, path, inside=inside)
        if not inside and len(found) > 1:
            message = "a script outside a transaction holds one statement: put this one into a migration of its own"
            raise DeclaredError(message, path=path, line=found[1].line)


def _check_statement(statement: Statement, path: Path, *, inside: bool) -> None:
    if OURS.match(statement.flat):
        word = statement.flat.split()[0].upper()
        message = f"{word} in a migration: dbkeep opens and ends its transaction and limits how long it waits"
    elif inside and re.search(r"\bCONCURRENTLY\b", statement.flat, re.IGNORECASE):
        message = "CONCURRENTLY cannot run in a transaction: begin the file with -- transactional: false"
    elif not inside and concurrent(statement.flat) is None:
        message = f"a script outside a transaction must be {FORMS}, so that a killed run can be repeated"
    else:
        return
    raise DeclaredError(message, path=path, line=statement.line)


def _check_directives(path: Path) -> bool:
    script = source.read_text(path)
    for key, value in _directives(script):
        if key == "depends":
            raise DeclaredError("migrations run in the order of their numbers: no depends", path=path, line=1)
        if value.lower() not in ("true", "false"):
            raise DeclaredError(f"transactional is true or false, not {value}", path=path, line=1)
    return transactional(script)


def _directives(script: str) -> list[tuple[str, str]]:
    head = COMMENT.match(script)
    return [(match[1], match[2]) for match in DIRECTIVE.finditer(head[0] if head else "")]


def only_statement(script: str, path: str) -> str:
    """Return the single statement of a script outside a transaction, on one line."""
    return next(source.split(script, path)).flat
