"""What PostgreSQL should be: reads `sql/` and checks its files against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from dbkeep.declared import line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError, UsageError
from dbkeep.postgresql import configuration, files
from dbkeep.postgresql.models import Context, Declared, Role, Roles, Routine


def read(root: Path, context: Context | None = None) -> Declared:
    """Return the declared state under `root`/sql. Paths in it are relative to `root`.

    `context`, which is the inventory variable postgresql_context, goes before `scope.context` of roles.yml.

    Raises DeclaredError naming file, line and key of the first thing that is wrong or contradicts another file, and
    UsageError for a context that does not exist.
    """
    if context is not None and context not in get_args(Context):
        raise UsageError(f"postgresql_context is {context!r} in the inventory: it is {' or '.join(get_args(Context))}")
    folder = root / "sql"
    roles = read_model(folder / "roles.yml", Roles)
    if context:
        roles = roles.model_copy(update={"scope": roles.scope.model_copy(update={"context": context})})
    functions = files.functions(folder / "functions", root, roles.scope)
    tables, policies = files.policies(folder / "policies", root, roles)
    declared = Declared(
        scope=roles.scope,
        roles=_without_own(roles, functions),
        migrations=tuple(files.migrations(folder / "migrations", root)),
        tables=tables,
        policies=policies,
        functions=functions,
        views=tuple(files.views(folder / "views", root, roles.scope)),
        configuration=configuration.read(folder / "settings.yml"),
        grant_lines=_grant_lines(folder / "roles.yml", roles),
    )
    _check_roles(declared, folder / "roles.yml")
    return declared


def _without_own(roles: Roles, functions: Sequence[Routine]) -> dict[str, Role]:
    """The roles, the definer without grants on functions that it owns: an owner's own rights are no grants."""
    name = roles.scope.definer
    own = {function.name for function in functions if function.security_definer}
    if name not in roles.roles:
        return roles.roles
    grants = roles.roles[name].grants
    others = grants.model_copy(update={"functions": tuple(f for f in grants.functions if f not in own)})
    return {**roles.roles, name: roles.roles[name].model_copy(update={"grants": others})}


def _grant_lines(path: Path, roles: Roles) -> dict[str, int]:
    _, lines = read_yaml(path)
    found: dict[str, int] = {}
    for name, role in roles.roles.items():
        at = ("roles", name)
        for kind, targets in role.grants:
            for index, target in enumerate(targets):
                key = target if isinstance(targets, dict) else index
                found[f"{name} {target}"] = line_of(lines, (*at, "grants", kind, key)) or 1
        for setting in role.settings:
            found[f"{name} {setting}"] = line_of(lines, (*at, "settings", setting)) or 1
        for index, group in enumerate(role.member_of):
            by_name, by_index = ((*at, "member_of", key) for key in (group, index))
            found[f"{name} {group}"] = max(line_of(lines, by_name) or 1, line_of(lines, by_index) or 1)
    return found


def _check_roles(declared: Declared, path: Path) -> None:
    """Cross-check roles.yml with itself and with the other files."""
    _, lines = read_yaml(path)
    scope, roles = declared.scope, declared.roles

    def fail(message: str, *at: str | int) -> None:
        raise DeclaredError(message, path=path, line=line_of(lines, at), key=".".join(map(str, at)))

    for key, name in (("owner", scope.owner), ("definer", scope.definer)):
        if name not in roles:
            fail(f"role {name} is not declared", "scope", key)
        if roles[name].login:
            fail("owns objects, so it must not log on", "roles", name, "login")
    functions = {function.name for function in declared.functions}
    others = {name.split(" ", 1)[1] for name in scope.other_objects}
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
            ("sequences", role.grants.sequences, others),
            ("types", role.grants.types, others),
        ):
            for index, target in enumerate(used):
                if target.split(".")[0] in scope.schemas and target not in known:
                    fail(f"{target} is not declared", *at, "grants", kind, target if isinstance(used, dict) else index)


def _check_membership(name: str, roles: dict[str, Role], seen: tuple[str, ...], fail: Callable[[str], None]) -> None:
    if name in seen:
        fail(f"membership is a circle: {' -> '.join((*seen, name))}")
    for group in roles[name].member_of if name in roles else ():
        if group not in roles and not group.startswith("pg_"):
            fail(f"role {group} is not declared")
        _check_membership(group, roles, (*seen, name), fail)
