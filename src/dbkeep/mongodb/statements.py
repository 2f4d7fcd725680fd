"""The commands that changes are made of, and how they are shown: as mongosh would take them, without passwords."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbkeep.mongodb.declared import Collection, Index, Privilege, Role, User, View
from dbkeep.plan import Change

Document = dict[str, Any]

ENGINE = "mongodb"
MECHANISMS = ["SCRAM-SHA-256"]
USER_DATABASE = "admin"


@dataclass(frozen=True, slots=True)
class Command:
    """A command document for one database. It may hold a password: show it with `show` only."""

    database: str
    document: Document


def change(
    kind: str,
    target: str,
    summary: str,
    commands: Sequence[Command],
    *,
    before: Any = None,
    after: Any = None,
    **more: Any,
) -> Change:
    """Return a change whose operation is `commands`; `before` and `after` become plain JSON values."""
    return Change(
        ENGINE,
        kind,
        target,
        summary,
        show(commands),
        tuple(commands),
        before=_plain(before),
        after=_plain(after),
        **more,
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def show(commands: Sequence[Command]) -> str:
    """Return the commands as text, one a line, with every password masked."""
    return "\n".join(
        f'db.getSiblingDB("{command.database}").runCommand({json.dumps(_masked(command.document), default=str)})'
        for command in commands
    )


def _masked(document: Document) -> Document:
    return {**document, "pwd": "********"} if "pwd" in document else document


def validation(collection: Collection) -> Document:
    """Return the options that make the server validate, as listCollections gives them back."""
    return {
        "validator": collection.validator,
        "validationLevel": collection.validation_level,
        "validationAction": collection.validation_action,
    }


def create_collection(database: str, collection: Collection) -> Command:
    return Command(database, {"create": collection.name, **validation(collection)})


def change_validation(database: str, collection: Collection) -> Command:
    return Command(database, {"collMod": collection.name, **validation(collection)})


def view_options(view: View) -> Document:
    return {"viewOn": view.view_on, "pipeline": list(view.pipeline)}


def create_view(database: str, view: View) -> Command:
    return Command(database, {"create": view.name, **view_options(view)})


def change_view(database: str, view: View) -> Command:
    return Command(database, {"collMod": view.name, **view_options(view)})


def drop_collection(database: str, name: str) -> Command:
    return Command(database, {"drop": name})


def index_specification(index: Index) -> Document:
    """Return an index as createIndexes takes it and listIndexes gives it back."""
    specification: Document = {"name": index.name, "key": dict(index.fields)}
    if index.unique:
        specification["unique"] = True
    if index.expire_after_seconds is not None:
        specification["expireAfterSeconds"] = index.expire_after_seconds
    if index.partial_filter is not None:
        specification["partialFilterExpression"] = index.partial_filter
    if index.collation is not None:
        specification["collation"] = index.collation
    return specification


def create_index(database: str, collection: str, index: Index) -> Command:
    return Command(database, {"createIndexes": collection, "indexes": [index_specification(index)]})


def drop_index(database: str, collection: str, name: str) -> Command:
    return Command(database, {"dropIndexes": collection, "index": name})


def change_index(database: str, collection: str, name: str, options: Document) -> Command:
    return Command(database, {"collMod": collection, "index": {"name": name, **options}})


def privilege(database: str, declared: Privilege) -> Document:
    """Return a privilege as the server stores it."""
    if declared.cluster:
        resource: Document = {"cluster": True}
    elif declared.database:
        resource = {"db": declared.database, "collection": ""}
    else:
        resource = {"db": database, "collection": declared.collection}
    return {"resource": resource, "actions": sorted(declared.actions)}


def _granted(names: Sequence[str]) -> list[Document]:
    return [{"role": name, "db": USER_DATABASE} for name in names]


def role_options(database: str, role: Role) -> Document:
    return {
        "privileges": [privilege(database, declared) for declared in role.privileges],
        "roles": _granted(role.roles),
    }


def create_role(database: str, role: Role) -> Command:
    return Command(USER_DATABASE, {"createRole": role.name, **role_options(database, role)})


def change_role(database: str, role: Role) -> Command:
    return Command(USER_DATABASE, {"updateRole": role.name, **role_options(database, role)})


def drop_role(database: str, name: str) -> Command:
    return Command(database, {"dropRole": name})


def user_options(user: User) -> Document:
    return {"roles": _granted(user.roles), "mechanisms": MECHANISMS}


def create_user(user: User, password: str) -> Command:
    return Command(USER_DATABASE, {"createUser": user.name, "pwd": password, **user_options(user)})


def change_user(user: User, password: str) -> Command:
    return Command(USER_DATABASE, {"updateUser": user.name, "pwd": password, **user_options(user)})


def drop_user(database: str, name: str) -> Command:
    return Command(database, {"dropUser": name})
