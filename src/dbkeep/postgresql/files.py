"""Reads the SQL files of `sql/`: migrations, policies, functions and views.

Every function takes the folder and the root that paths are shown relative to, and raises DeclaredError with file and
line of the first thing that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from dbkeep.errors import DeclaredError
from dbkeep.postgresql import source
from dbkeep.postgresql.migrations import rules as migration_rules
from dbkeep.postgresql.models import Migration, Policy, Roles, Routine, Scope, View

# With an empty one a type would be looked for among the caller's temporary ones first (manual, "search_path").
PINNED = "SET search_path = pg_catalog, pg_temp"


def _files(folder: Path, suffix: str = ".sql") -> list[Path]:
    found = sorted(folder.glob(f"*{suffix}"))
    if not found:
        raise DeclaredError(f"no {suffix} file in this folder", path=folder)
    return found


def migrations(folder: Path, root: Path) -> Iterator[Migration]:
    """Yield the migrations in the order of their numbers."""
    paths = _files(folder)
    migration_rules.check_order(paths)
    for path in paths:
        if path.name.endswith(".rollback.sql"):
            continue
        rollback = path.with_suffix(".rollback.sql")
        migration_rules.check_scripts(path, rollback)
        sql = source.read_text(path)
        yield Migration(id=path.stem, path=str(path.relative_to(root)), sql=sql, rollback=source.read_text(rollback))


def policies(folder: Path, root: Path, roles: Roles) -> tuple[tuple[str, ...], tuple[Policy, ...]]:
    """Return the protected tables, one for each file, and their policies."""
    tables: list[str] = []
    found: dict[tuple[str, str], Policy] = {}
    for path in _files(folder):
        protected = False
        for statement in source.statements(path):
            if match := source.ROW_SECURITY.fullmatch(statement.flat):
                protected = True
                tables.append(_table(match[1], match[2], roles.scope, path, statement.line))
            elif match := source.POLICY.fullmatch(statement.flat):
                _table(match[2], match[3], roles.scope, path, statement.line)
                policy = _policy(match, path.relative_to(root), statement.line)
                _check_policy(policy, found, roles, path)
                found[policy.table, policy.name] = policy
            else:
                raise DeclaredError(
                    "neither ALTER TABLE s.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY nor"
                    " CREATE POLICY p ON s.t AS ... FOR ... TO ... USING (...) WITH CHECK (...)",
                    path=path, line=statement.line,
                )  # fmt: skip
        if not protected:
            raise DeclaredError("does not enable and force row security", path=path, line=1)
    return tuple(tables), tuple(found.values())


def _table(schema: str, table: str, scope: Scope, path: Path, line: int) -> str:
    if table != path.stem or schema not in scope.protected_schemas:
        raise DeclaredError(f"is about {schema}.{table}: this file declares {path.stem}", path=path, line=line)
    return f"{schema}.{table}"


def _policy(match: re.Match[str], path: Path, line: int) -> Policy:
    return Policy.model_validate(
        {
            "name": match[1], "table": f"{match[2]}.{match[3]}", "path": str(path), "line": line,
            "permissive": match[4].upper() == "PERMISSIVE", "command": match[5].upper(),
            "roles": sorted(match[6].split(", ")), "clauses": match[9],
        }
    )  # fmt: skip


def _check_policy(policy: Policy, others: Mapping[tuple[str, str], Policy], roles: Roles, path: Path) -> None:
    unknown = [role for role in policy.roles if role not in roles.roles]
    if unknown:
        message = f"role {unknown[0]} is not declared in sql/roles.yml"
    elif (policy.table, policy.name) in others:
        message = "the table has two policies of this name"
    else:
        return
    raise DeclaredError(message, path=path, line=policy.line, key=policy.name)


def functions(folder: Path, root: Path, scope: Scope) -> tuple[Routine, ...]:
    """Return the functions, with those of the scope's context, those that others call before those that call them."""
    found = list(_functions(folder, root, scope))
    if scope.context:
        found += _functions(folder / scope.context, root, scope)
    return _callees_first(found)


def _functions(folder: Path, root: Path, scope: Scope) -> Iterator[Routine]:
    for path in _files(folder):
        statement, match = source.only_statement(
            path, source.FUNCTION, "CREATE OR REPLACE FUNCTION schema.name(...) ..."
        )
        _require_scope(match[1], scope, path, statement.line)
        head = re.split(r"\$\w*\$|\bRETURN\b", statement.flat, maxsplit=1)[0].upper()
        definer = "SECURITY DEFINER" in head
        if definer and PINNED.upper() not in head:
            raise DeclaredError(f"SECURITY DEFINER without {PINNED}", path=path, line=statement.line)
        yield Routine(
            name=f"{match[1]}.{match[2]}", path=str(path.relative_to(root)), line=statement.line, sql=statement.text,
            security_definer=definer, trigger="RETURNS TRIGGER" in head,
        )  # fmt: skip


def _callees_first(functions: list[Routine]) -> tuple[Routine, ...]:
    """The server checks a function's body when it is created, so what it calls must be there before it."""
    named = {function.name: function for function in functions}
    calls = {
        name: {other for other in named if other != name and re.search(rf"\b{re.escape(other)}\s*\(", function.sql)}
        for name, function in named.items()
    }
    try:
        return tuple(named[name] for name in TopologicalSorter(calls).static_order())
    except CycleError as error:
        first = named[error.args[1][0]]
        circle = " -> ".join(error.args[1])
        raise DeclaredError(f"functions call each other: {circle}", path=first.path, line=first.line) from None


def views(folder: Path, root: Path, scope: Scope) -> Iterator[View]:
    """Yield the views."""
    for path in _files(folder):
        statement, match = source.only_statement(path, source.VIEW, "CREATE VIEW schema.name AS SELECT ...")
        _require_scope(match[1], scope, path, statement.line)
        yield View(name=f"{match[1]}.{match[2]}", path=str(path.relative_to(root)), line=statement.line, query=match[3])


def _require_scope(schema: str, scope: Scope, path: Path, line: int) -> None:
    if schema not in scope.schemas:
        raise DeclaredError(f"schema {schema} is not in scope.schemas of sql/roles.yml", path=path, line=line)
