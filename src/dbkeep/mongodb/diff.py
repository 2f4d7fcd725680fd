"""How declared and live differ: pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dbkeep.mongodb import statements
from dbkeep.mongodb.declared import Collection, Declared, View
from dbkeep.mongodb.index_diff import index_changes
from dbkeep.mongodb.inspect import Live, LiveCollection, LiveRole, Violations
from dbkeep.mongodb.statements import USER_DATABASE, Document, change
from dbkeep.plan import Change, Risk


@dataclass(frozen=True, slots=True)
class Findings:
    """What had to be asked of the documents: who breaks a changed validator, which TTL indexes would remove some."""

    violations: Mapping[str, Violations] = field(default_factory=dict)
    expiring: frozenset[tuple[str, str]] = frozenset()


def diff(declared: Declared, live: Live, findings: Findings, secrets: Mapping[str, str]) -> list[Change]:
    """Return the changes that turn `live` into `declared`: what is missing first, what is undeclared last."""
    changes = [
        *_collections(declared, live, findings),
        *_views(declared, live),
        *_roles(declared, live),
        *_users(declared, live, secrets),
    ]
    return [*changes, *_undeclared(declared, live)]


def validation_differs(collection: Collection, live: LiveCollection) -> bool:
    """Return whether the server validates a collection in another way than declared."""
    return _validation(live) != statements.validation(collection)


def _validation(live: LiveCollection) -> Document:
    """The server leaves level and action out where they were never set."""
    return {
        "validator": live.options.get("validator", {}),
        "validationLevel": live.options.get("validationLevel", "strict"),
        "validationAction": live.options.get("validationAction", "error"),
    }


def _collections(declared: Declared, live: Live, findings: Findings) -> Iterator[Change]:
    database = declared.database
    for collection in declared.collections:
        target = f"{database}.{collection.name}"
        present = live.collections.get(collection.name)
        if present is None:
            commands = [statements.create_collection(database, collection)]
            yield change("collection", target, "create with its validator", commands, after=commands[0].document)
        elif present.type != "collection":
            yield _other_type(target, present, "collection")
            continue
        else:
            yield from _options(database, collection, present, findings.violations.get(collection.name))
        yield from index_changes(database, collection, present, findings.expiring)


def _options(
    database: str, collection: Collection, live: LiveCollection, violations: Violations | None
) -> Iterator[Change]:
    target = f"{database}.{collection.name}"
    extra = {name: value for name, value in live.options.items() if not name.startswith("validat")}
    if extra:
        reason = "these options cannot be changed in place; copy the documents into a new collection"
        yield change(
            "collection", target, f"has undeclared options {', '.join(sorted(extra))}", [], before=extra, refused=reason
        )
    if validation_differs(collection, live):
        yield change(
            "validator",
            target,
            "set the declared validator, level and action",
            [statements.change_validation(database, collection)],
            before=_validation(live),
            after=statements.validation(collection),
            refused=_refusal(violations),
        )


def _refusal(violations: Violations | None) -> str | None:
    if violations is None or not violations.count:
        return None
    documents = "1 document breaks" if violations.count == 1 else f"{violations.count} documents break"
    return f"{documents} the declared validator, for example _id {', '.join(violations.examples)}; repair them first"


def _other_type(target: str, live: LiveCollection, wanted: str) -> Change:
    return change(
        wanted,
        target,
        f"is a {live.type}, declared as a {wanted}",
        [],
        before=live.type,
        after=wanted,
        refused="its name is taken; rename or drop it by hand",
    )


def _views(declared: Declared, live: Live) -> Iterator[Change]:
    for view in declared.views:
        yield from _view(declared.database, view, live.collections.get(view.name))


def _view(database: str, view: View, live: LiveCollection | None) -> Iterator[Change]:
    target, options = f"{database}.{view.name}", statements.view_options(view)
    if live is None:
        yield change("view", target, "create", [statements.create_view(database, view)], after=options)
    elif live.type != "view":
        yield _other_type(target, live, "view")
    elif live.options != options:
        commands = [statements.change_view(database, view)]
        yield change("view", target, "set the declared pipeline", commands, before=live.options, after=options)


def _roles(declared: Declared, live: Live) -> Iterator[Change]:
    for role in declared.roles:
        present = live.roles.get((USER_DATABASE, role.name))
        wanted = statements.role_options(declared.database, role)
        if present is None:
            commands = [statements.create_role(declared.database, role)]
            yield change("role", role.name, "create", commands, after=wanted)
        elif _comparable(present.privileges, present.roles) != _comparable(wanted["privileges"], wanted["roles"]):
            commands = [statements.change_role(declared.database, role)]
            summary = "set the declared privileges and inherited roles"
            yield change("role", role.name, summary, commands, before=_as_document(present), after=wanted)


def _comparable(privileges: list[Document], roles: list[Document]) -> tuple[set[Any], set[Any]]:
    """Neither the order of privileges, actions and roles matters, nor how actions on one resource are spread."""
    granted = {(_key(item["resource"]), action) for item in privileges for action in item["actions"]}
    return granted, {_key(role) for role in roles}


def _key(document: Document) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(document.items()))


def _as_document(role: LiveRole) -> Document:
    return {"privileges": role.privileges, "roles": role.roles}


def _users(declared: Declared, live: Live, secrets: Mapping[str, str]) -> Iterator[Change]:
    for user in declared.users:
        present = live.users.get((USER_DATABASE, user.name))
        wanted = statements.user_options(user)
        if present is None:
            commands = [statements.create_user(user, secrets[user.name])]
            yield change("user", user.name, "create", commands, after=wanted)
            continue
        before = {"roles": present.roles, "mechanisms": present.mechanisms}
        reasons = []
        if {_key(role) for role in present.roles} != {_key(role) for role in wanted["roles"]}:
            reasons.append("roles")
        if sorted(present.mechanisms) != wanted["mechanisms"]:
            reasons.append("mechanisms")
        if user.name not in live.passwords:
            reasons.append("password")
        if reasons:
            commands = [statements.change_user(user, secrets[user.name])]
            summary = f"set the declared {' and '.join(reasons)}"
            yield change("user", user.name, summary, commands, before=before, after=wanted)


def _undeclared(declared: Declared, live: Live) -> Iterator[Change]:
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
            yield change("role", target, "drop, it is not declared", commands, before=_as_document(role), risk=risk)
    names = {collection.name for collection in declared.collections} | {view.name for view in declared.views}
    for name, present in live.collections.items():
        if name not in names:
            content = "" if present.empty else " and holds documents"
            commands = [statements.drop_collection(declared.database, name)]
            target, summary = f"{declared.database}.{name}", f"drop, it is not declared{content}"
            yield change(present.type, target, summary, commands, before=present.options, risk=risk)
