"""Reads mongo/migrations: numbered Python files with `up`, `down` and `verify`, without running them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from dbkeep.errors import DeclaredError
from dbkeep.mongodb.models import Migration

NAME = re.compile(r"(\d{4})_[a-z0-9_]+")
FUNCTIONS = ("up", "down", "verify")


def read(folder: Path, root: Path) -> tuple[Migration, ...]:
    """Return the migrations of `folder` in the order of their numbers, with paths relative to `root`.

    Raises DeclaredError with file and line of the first thing that is wrong.
    """
    return tuple(_migrations(folder, root))


def _migrations(folder: Path, root: Path) -> Iterator[Migration]:
    numbers: dict[str, str] = {}
    for path in sorted(folder.glob("*.py")):
        named = NAME.fullmatch(path.stem)
        if named is None:
            raise DeclaredError("a migration is named like 0001_what_it_does.py", path=path)
        if named[1] in numbers:
            raise DeclaredError(f"number {named[1]} is also that of {numbers[named[1]]}", path=path)
        numbers[named[1]] = path.name
        source = path.read_text(encoding="utf-8")
        summary = _check(path, source)
        yield Migration(id=path.stem, path=str(path.relative_to(root)), summary=summary, source=source)


def _check(path: Path, source: str) -> str:
    """Return the first line of the docstring of a migration that has everything it needs."""
    try:
        module = ast.parse(source)
    except SyntaxError as error:
        raise DeclaredError(f"not valid Python: {error.msg}", path=path, line=error.lineno) from None
    summary = ast.get_docstring(module)
    if not summary:
        raise DeclaredError("says in no docstring what it is for", path=path, line=1)
    found = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    for name in FUNCTIONS:
        if name not in found:
            raise DeclaredError(f"has no function {name}(documents)", path=path, line=1)
        if len(found[name].args.args) != 1:
            raise DeclaredError("takes one argument, documents", path=path, line=found[name].lineno, key=name)
    return summary.splitlines()[0]
