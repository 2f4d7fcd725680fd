"""How declared and live roles and users differ: pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dbkeep.mongodb import statements
from dbkeep.mongodb.findings import Findings
from dbkeep.mongodb.inspect import Live, LiveRole, LiveUser
from dbkeep.mongodb.models import Declared, Role
from dbkeep.mongodb.statements import USER_DATABASE, Document, change
from dbkeep.plan import Change, Risk

ITERATIONS = "scramSHA256IterationCount"


def role_differs(database: str, role: Role, live: Live) -> bool:
    """Return whether a role is missing or may do something else than declared."""
    present = live.roles.get((USER_DATABASE, role.name))
    return present is None or _comparable(as_document(present)) != _comparable(statements.role_options(database, role))


def role_changes(declared: Declared, live: Live, findings: Findings) -> Iterator[Change]:
    for role in _inherited_first(declared.roles):
        if not role_differs(declared.database, role, live):
            continue
        present = live.roles.get((USER_DATABASE, role.name))
        wanted = statements.role_options(declared.database, role)
        refused = findings.rejected.get(("role", role.name))
        if present is None:
            commands = [statements.create_role(declared.database, role)]
            yield change("role", role.name, "create", commands, after=wanted, refused=refused)
        else:
            commands = [statements.change_role(declared.database, role)]
            summary, before = "set the declared privileges and inherited roles", as_document(present)
            yield change("role", role.name, summary, commands, before=before, after=wanted, refused=refused)


def _inherited_first(roles: tuple[Role, ...]) -> list[Role]:
    """A role can only be made when those that it inherits are there."""
    ordered: list[Role] = []
    waiting = {role.name: role for role in roles}

    def place(role: Role) -> None:
        waiting.pop(role.name, None)
        for name in role.roles:
            if name in waiting:
                place(waiting[name])
        ordered.append(role)

    while waiting:
        place(next(iter(waiting.values())))
    return ordered


def _comparable(document: Document) -> tuple[set[Any], set[Any], list[Any]]:
    """Neither the order of privileges, actions and roles matters, nor how actions on one resource are spread."""
    granted = {(_key(item["resource"]), action) for item in document["privileges"] for action in item["actions"]}
    return granted, {_key(role) for role in document["roles"]}, _restrictions(document["authenticationRestrictions"])


def _restrictions(restrictions: list[Document]) -> list[Any]:
    return sorted(sorted((name, sorted(places)) for name, places in part.items()) for part in restrictions)


def _key(document: Document) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(document.items()))


def as_document(role: LiveRole) -> Document:
    return {
        "privileges": role.privileges,
        "roles": role.roles,
        "authenticationRestrictions": role.restrictions,
    }


def user_changes(declared: Declared, live: Live, secrets: Mapping[str, str]) -> Iterator[Change]:
    parameters = {parameter.name: parameter.value for parameter in declared.server.parameters}
    wanted_iterations = parameters.get(ITERATIONS, 0)
    iterations = wanted_iterations if isinstance(wanted_iterations, int) else 0
    for user in declared.users:
        present = live.users.get((USER_DATABASE, user.name))
        wanted = statements.user_options(user)
        if present is None:
            commands = [statements.create_user(user, secrets[user.name])]
            yield change("user", user.name, "create", commands, after=wanted)
            continue
        reasons = list(_reasons(present, wanted, iterations))
        if user.name not in live.passwords:
            reasons.append("password")
        if reasons:
            commands = [statements.change_user(user, secrets[user.name])]
            summary = f"set the declared {' and '.join(reasons)}"
            yield change("user", user.name, summary, commands, before=_user(present), after=wanted)


def _reasons(present: LiveUser, wanted: Document, iterations: int) -> Iterator[str]:
    if {_key(role) for role in present.roles} != {_key(role) for role in wanted["roles"]}:
        yield "roles"
    if sorted(present.mechanisms) != wanted["mechanisms"]:
        yield "mechanisms"
    if _restrictions(present.restrictions) != _restrictions(wanted["authenticationRestrictions"]):
        yield "addresses to log on from"
    if present.custom_data:
        yield "absence of custom data"
    if present.iterations < iterations:
        yield f"password anew ({present.iterations} iterations are less than {iterations})"


def _user(user: LiveUser) -> Document:
    return {
        "roles": user.roles,
        "mechanisms": user.mechanisms,
        "authenticationRestrictions": user.restrictions,
        "customData": user.custom_data,
    }


def undeclared_access(declared: Declared, live: Live) -> Iterator[Change]:
    """Yield the users and roles to drop; users first, as they hold roles."""
    risk = Risk.DESTRUCTIVE
    users = {(USER_DATABASE, user.name) for user in declared.users}
    for key, user in live.users.items():
        if key not in users:
            target = user.name if user.database == USER_DATABASE else f"{user.database}.{user.name}"
            commands = [statements.drop_user(user.database, user.name)]
            yield change("user", target, "drop, it is not declared", commands, before={"roles": user.roles}, risk=risk)
    roles = {(USER_DATABASE, role.name) for role in declared.roles}
    for key, role in live.roles.items():
        if key not in roles:
            target = role.name if role.database == USER_DATABASE else f"{role.database}.{role.name}"
            commands = [statements.drop_role(role.database, role.name)]
            yield change("role", target, "drop, it is not declared", commands, before=as_document(role), risk=risk)
