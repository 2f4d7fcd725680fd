"""What PostgreSQL should be: reads `sql/` into one checked value that travels to the host as JSON."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dbkeep.declared import Model, line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError
from dbkeep.postgresql import source

Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
QualifiedName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]
NamePattern = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*\*?$")]
# Where yoyo keeps its own tables and dbkeep the digests of applied migrations.
MIGRATION_SCHEMA = "migration"
Allowed = dict[Literal["SELECT", "INSERT", "UPDATE", "DELETE"], Literal["all"] | tuple[Name, ...]]
Command = Literal["ALL", "SELECT", "INSERT", "UPDATE", "DELETE"]


class ClosedToPublic(Model):
    """Objects outside the managed schemas whose default grants to PUBLIC are revoked. A name may end in `*`."""

    databases: tuple[Name, ...] = ()
    schemas: tuple[Name, ...] = ()
    functions: tuple[NamePattern, ...] = ()


class Scope(Model):
    database: Name
    owner: Name
    definer: Name
    schemas: tuple[Name, ...]
    protected_schemas: tuple[Name, ...]
    managed_roles: str
    closed_to_public: ClosedToPublic = ClosedToPublic()

    @property
    def managed_schemas(self) -> tuple[str, ...]:
        return (*self.schemas, MIGRATION_SCHEMA)

    @field_validator("managed_roles")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


class Grants(Model):
    """Privileges of one role. Privileges on a relation are on all of it or on the columns named."""

    database: tuple[Literal["CONNECT", "TEMPORARY", "CREATE"], ...] = ()
    schemas: dict[Name, tuple[Literal["USAGE", "CREATE"], ...]] = Field(default={})
    relations: dict[QualifiedName, Allowed] = Field(default={})
    functions: tuple[QualifiedName, ...] = ()


class Role(Model):
    """One role. SUPERUSER, CREATEROLE, CREATEDB and REPLICATION cannot be declared: no role here has them."""

    comment: str
    login: bool = False
    inherit: bool = True
    bypass_row_security: bool = False
    connection_limit: Annotated[int, Field(ge=-1)] = -1
    member_of: tuple[Name, ...] = ()
    settings: dict[Name, str] = Field(default={})
    grants: Grants = Grants()


class Roles(Model):
    scope: Scope
    roles: dict[Name, Role]


class Migration(Model):
    """A forward SQL script and the one that takes it back. `digest` is the SHA-256 of the forward script."""

    id: str
    path: str
    sql: str
    rollback: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Policy(Model):
    """A row-security policy. `clauses` is USING and WITH CHECK as written, on one line."""

    table: str
    name: str
    path: str
    line: int
    permissive: bool
    command: Command
    roles: tuple[str, ...]
    clauses: str


class Routine(Model):
    """A function; the file is named like it, so it has one signature."""

    name: str
    path: str
    line: int
    sql: str
    security_definer: bool
    trigger: bool


class View(Model):
    name: str
    path: str
    line: int
    query: str


class Declared(Model):
    """`grant_lines` maps a role and what it is granted a privilege on ("app_api chat.users") to a line of roles.yml."""

    scope: Scope
    roles: dict[str, Role]
    migrations: tuple[Migration, ...]
    tables: tuple[str, ...]
    policies: tuple[Policy, ...]
    functions: tuple[Routine, ...]
    views: tuple[View, ...]
    grant_lines: dict[str, int]

    def where_granted(self, role: str, target: str) -> str:
        """Return the file and line that grant `role` something on `target`, or '' when none does."""
        line = self.grant_lines.get(f"{role} {target}")
        return f"sql/roles.yml:{line}" if line else ""


def read(root: Path) -> Declared:
    """Return the declared state under `root`/sql. Paths in it are relative to `root`.

    Raises DeclaredError naming file, line and key of the first thing that is wrong or contradicts another file.
    """
    folder = root / "sql"
    roles = read_model(folder / "roles.yml", Roles)
    tables, policies = _policies(folder / "policies", root, roles)
    declared = Declared(
        scope=roles.scope,
        roles=roles.roles,
        migrations=tuple(_migrations(folder / "migrations", root)),
        tables=tables,
        policies=policies,
        functions=_callees_first(list(_functions(folder / "functions", root, roles.scope))),
        views=tuple(_views(folder / "views", root, roles.scope)),
        grant_lines=_grant_lines(folder / "roles.yml", roles),
    )
    _check_roles(declared, folder / "roles.yml")
    return declared


def _files(folder: Path, suffix: str = ".sql") -> list[Path]:
    found = sorted(folder.glob(f"*{suffix}"))
    if not found:
        raise DeclaredError(f"no {suffix} file in this folder", path=folder)
    return found


def _migrations(folder: Path, root: Path) -> Iterator[Migration]:
    for path in _files(folder):
        if path.name.endswith(".rollback.sql"):
            continue
        if not re.fullmatch(r"\d{4}_[a-z0-9_]+", path.stem):
            raise DeclaredError("a migration's name is four digits, _ and words, as in 0001_users.sql", path=path)
        rollback = path.with_suffix(".rollback.sql")
        sql = source.read_text(path)
        yield Migration(id=path.stem, path=str(path.relative_to(root)), sql=sql, rollback=source.read_text(rollback))


def _policies(folder: Path, root: Path, roles: Roles) -> tuple[tuple[str, ...], tuple[Policy, ...]]:
    tables: list[str] = []
    policies: dict[tuple[str, str], Policy] = {}
    for path in _files(folder):
        protected = False
        for statement in source.statements(path):
            if match := source.ROW_SECURITY.fullmatch(statement.flat):
                protected = True
                tables.append(_table(match[1], match[2], roles.scope, path, statement.line))
            elif match := source.POLICY.fullmatch(statement.flat):
                _table(match[2], match[3], roles.scope, path, statement.line)
                policy = _policy(match, path.relative_to(root), statement.line)
                _check_policy(policy, policies, roles, path)
                policies[policy.table, policy.name] = policy
            else:
                raise DeclaredError(
                    "neither ALTER TABLE s.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY nor"
                    " CREATE POLICY p ON s.t AS ... FOR ... TO ... USING (...) WITH CHECK (...)",
                    path=path, line=statement.line,
                )  # fmt: skip
        if not protected:
            raise DeclaredError("does not enable and force row security", path=path, line=1)
    return tuple(tables), tuple(policies.values())


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


def _functions(folder: Path, root: Path, scope: Scope) -> Iterator[Routine]:
    for path in _files(folder):
        statement, match = source.only_statement(
            path, source.FUNCTION, "CREATE OR REPLACE FUNCTION schema.name(...) ..."
        )
        _require_scope(match[1], scope, path, statement.line)
        head = re.split(r"\$\w*\$|\bRETURN\b", statement.flat, maxsplit=1)[0].upper()
        definer = "SECURITY DEFINER" in head
        if definer and "SET SEARCH_PATH = ''" not in head:
            raise DeclaredError("SECURITY DEFINER without SET search_path = ''", path=path, line=statement.line)
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


def _views(folder: Path, root: Path, scope: Scope) -> Iterator[View]:
    for path in _files(folder):
        statement, match = source.only_statement(path, source.VIEW, "CREATE VIEW schema.name AS SELECT ...")
        _require_scope(match[1], scope, path, statement.line)
        yield View(name=f"{match[1]}.{match[2]}", path=str(path.relative_to(root)), line=statement.line, query=match[3])


def _require_scope(schema: str, scope: Scope, path: Path, line: int) -> None:
    if schema not in scope.schemas:
        raise DeclaredError(f"schema {schema} is not in scope.schemas of sql/roles.yml", path=path, line=line)


def _grant_lines(path: Path, roles: Roles) -> dict[str, int]:
    _, lines = read_yaml(path)
    found: dict[str, int] = {}
    for name, role in roles.roles.items():
        for kind, targets in (
            ("schemas", dict.fromkeys(role.grants.schemas)),
            ("relations", dict.fromkeys(role.grants.relations)),
            ("functions", {target: index for index, target in enumerate(role.grants.functions)}),
        ):
            for target, index in targets.items():
                key = target if index is None else index
                found[f"{name} {target}"] = line_of(lines, ("roles", name, "grants", kind, key)) or 1
    return found


def _check_roles(declared: Declared, path: Path) -> None:
    """Cross-check roles.yml with itself and with the other files."""
    _, lines = read_yaml(path)
    scope, roles = declared.scope, declared.roles

    def fail(message: str, *at: str) -> None:
        raise DeclaredError(message, path=path, line=line_of(lines, at), key=".".join(at))

    for key, name in (("owner", scope.owner), ("definer", scope.definer)):
        if name not in roles:
            fail(f"role {name} is not declared", "scope", key)
        if roles[name].login:
            fail("owns objects, so it must not log on", "roles", name, "login")
    functions = {function.name for function in declared.functions}
    relations = {*declared.tables, *(view.name for view in declared.views)}
    for name, role in roles.items():
        at = ("roles", name)
        if not re.search(scope.managed_roles, name):
            fail(f"does not match scope.managed_roles {scope.managed_roles}", *at)
        if role.login and role.connection_limit < 0:
            fail("a role that logs on needs a connection_limit", *at)
        _check_membership(name, roles, (), lambda text: fail(text, *at, "member_of"))  # noqa: B023
        for kind, used, known in (
            ("schemas", role.grants.schemas, set(scope.schemas)),
            ("relations", role.grants.relations, relations),
            ("functions", role.grants.functions, functions),
        ):
            for target in used:
                if target.split(".")[0] in scope.schemas and target not in known:
                    fail(f"{target} is not declared", *at, "grants", kind, *([] if kind == "functions" else [target]))


def _check_membership(name: str, roles: dict[str, Role], seen: tuple[str, ...], fail: Callable[[str], None]) -> None:
    if name in seen:
        fail(f"membership is a circle: {' -> '.join((*seen, name))}")
    for group in roles[name].member_of if name in roles else ():
        if group not in roles and not group.startswith("pg_"):
            fail(f"role {group} is not declared")
        _check_membership(group, roles, (*seen, name), fail)
