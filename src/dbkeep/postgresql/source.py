"""Reads the declared SQL files: splits them into statements and takes the heads of policies, functions and views apart.

A file is read just far enough to know what it is about; whether its SQL is right only the server can say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dbkeep.errors import DeclaredError

# Quoted pieces and comments first, so that a semicolon inside one ends nothing (manual, 4.1 "Lexical Structure").
TOKEN = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)"
    r"|(?P<quoted>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
    r"|(?P<end>;)"
    r"|(?P<other>\s+|[\w.]+|.)",
    re.DOTALL,
)
NAME = r"([a-z_][a-z0-9_]*)"
ROW_SECURITY = re.compile(
    rf"ALTER TABLE {NAME}\.{NAME} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", re.IGNORECASE
)
POLICY = re.compile(
    rf"CREATE POLICY {NAME} ON {NAME}\.{NAME} AS (PERMISSIVE|RESTRICTIVE)"
    rf" FOR (ALL|SELECT|INSERT|UPDATE|DELETE) TO ({NAME}(?:, {NAME})*)"
    r" ((?:USING|WITH CHECK) \((?:(?!CREATE POLICY).)*\))",
    re.IGNORECASE | re.DOTALL,
)
FUNCTION = re.compile(rf"CREATE OR REPLACE FUNCTION {NAME}\.{NAME} ?\(.*", re.IGNORECASE | re.DOTALL)
VIEW = re.compile(rf"CREATE VIEW {NAME}\.{NAME} AS (.*)", re.IGNORECASE | re.DOTALL)


class Statement(NamedTuple):
    """One statement: its text without comments around it, the line it starts on, and its text on a single line."""

    text: str
    line: int
    flat: str


def read_text(path: Path) -> str:
    """Return the text of a declared file. Raises DeclaredError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclaredError(f"cannot be read: {error}", path=path) from None


def statements(path: Path) -> Iterator[Statement]:
    """Yield the statements of the file at `path`.

    Raises DeclaredError when the file cannot be read or its last statement has no semicolon.
    """
    yield from split(read_text(path), path)


def split(text: str, path: Path | str) -> Iterator[Statement]:
    """Yield the statements of `text`, that of the file at `path`; raises DeclaredError as `statements` does."""
    start: int | None = None
    flat: list[str] = []
    for token in TOKEN.finditer(text):
        if token["end"]:
            if start is not None:
                yield Statement(text[start : token.start()], _line(text, start), "".join(flat).strip())
            start, flat = None, []
        elif token["comment"]:
            continue
        elif not token[0].isspace():
            start = token.start() if start is None else start
            flat.append(token[0])
        elif flat and flat[-1] != " ":
            flat.append(" ")
    if start is not None:
        raise DeclaredError("the statement does not end with a semicolon", path=path, line=_line(text, start))


def only_statement(path: Path, shape: re.Pattern[str], wanted: str) -> tuple[Statement, re.Match[str]]:
    """Return the single statement of a file and its match with `shape`; `wanted` describes the shape in the error.

    Raises DeclaredError when the file holds anything else, or another name than the file's.
    """
    found = list(statements(path))
    match = shape.fullmatch(found[0].flat) if found else None
    if match is None or len(found) != 1:
        raise DeclaredError(
            f"must hold one statement of the form: {wanted}", path=path, line=found[-1].line if found else 1
        )
    if match[2] != path.stem:
        raise DeclaredError(f"declares {match[2]}: name the file {match[2]}.sql", path=path, line=found[0].line)
    return found[0], match


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
