"""The commands that changes are made of, and how they are shown: as mongosh would take them, without passwords."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dbkeep.mongodb.models import Collection, Index, Migration, Privilege, Role, User, View
from dbkeep.plan import Change

Document = dict[str, Any]

ENGINE = "mongodb"
MECHANISMS = ["SCRAM-SHA-256"]
USER_DATABASE = "admin"
STORED_FUNCTIONS = "system.js"

# How the configuration of a replica set has a member that copies the data only, and one that also elects and leads.
COPY: dict[str, Any] = {"votes": 0, "priority": 0}
FULL_MEMBER: dict[str, Any] = {"votes": 1, "priority": 1, "hidden": False, "secondaryDelaySecs": 0}


@dataclass(frozen=True, slots=True)
class Command:
    """A command document for one database. It may hold a password: show it with `show` only.

    It is for the primary, or for `member` ("host:port"), because a parameter is each server's own.
    """

    database: str
    document: Document
    member: str | None = None


@dataclass(frozen=True, slots=True)
class RunMigration:
    """Runs in batches of documents and not as commands. `back` takes the migration back."""

    migration: Migration
    back: bool = False


@dataclass(frozen=True, slots=True)
class Reconfiguration:
    """A step of one member of the replica set. Its command is made when it runs, from the set as it then is."""

    verb: Literal["add", "complete", "remove"]
    host: str


def change(
    kind: str,
    target: str,
    summary: str,
    commands: Sequence[Command | Reconfiguration],
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


def show(commands: Sequence[Command | Reconfiguration]) -> str:
    """Return the commands as text, one a line, with every password masked."""
    return "\n".join(_line(command) for command in commands)


def _line(command: Command | Reconfiguration) -> str:
    if isinstance(command, Reconfiguration):
        return _step(command)
    document = json.dumps(_masked(command.document), default=str)
    where = f" // on {command.member}" if command.member else ""
    return f'db.getSiblingDB("{command.database}").runCommand({document}){where}'


def _step(step: Reconfiguration) -> str:
    if step.verb == "remove":
        return f'rs.remove("{step.host}")'
    if step.verb == "add":
        return f"rs.add({json.dumps({'host': step.host, **COPY})}) // and wait until it has a copy"
    return f'rs.reconfig(...) // "{step.host}": {json.dumps(FULL_MEMBER)}'


def _masked(document: Document) -> Document:
    return {**document, "pwd": "********"} if "pwd" in document else document


def validation(collection: Collection) -> Document:
    """Return the options that make the server validate, as listCollections gives them back."""
    return {
        "validator": collection.validator,
        "validationLevel": collection.validation_level,
        "validationAction": collection.validation_action,
    }


def collection_options(collection: Collection) -> Document:
    """Return the other options of a collection, as `create` takes them."""
    options: Document = {}
    if collection.collation:
        options["collation"] = collection.collation
    if collection.capped:
        options |= {"capped": True, "size": collection.capped.size_bytes}
        if collection.capped.documents:
            options["max"] = collection.capped.documents
    if collection.clustered:
        options["clusteredIndex"] = {"key": {"_id": 1}, "unique": True}
    if collection.time_series:
        series = collection.time_series
        meta = {"metaField": series.meta_field} if series.meta_field else {}
        options["timeseries"] = {"timeField": series.time_field, **meta, "granularity": series.granularity}
    if collection.expire_after_seconds is not None:
        options["expireAfterSeconds"] = collection.expire_after_seconds
    if collection.pre_and_post_images:
        options["changeStreamPreAndPostImages"] = {"enabled": True}
    return options


def create_collection(database: str, collection: Collection) -> Command:
    validated = {} if collection.time_series else validation(collection)
    return Command(database, {"create": collection.name, **collection_options(collection), **validated})


def change_collection(database: str, name: str, options: Document) -> Command:
    return Command(database, {"collMod": name, **options})


def view_options(view: View) -> Document:
    collation = {"collation": view.collation} if view.collation else {}
    return {"viewOn": view.view_on, "pipeline": list(view.pipeline), **collation}


def create_view(database: str, view: View) -> Command:
    return Command(database, {"create": view.name, **view_options(view)})


def change_view(database: str, view: View) -> Command:
    return Command(database, {"collMod": view.name, **view_options(view)})


def drop_collection(database: str, name: str) -> Command:
    """Return what removes a collection; the stored functions' the server lets nobody drop, only empty."""
    if name == STORED_FUNCTIONS:
        return Command(database, {"delete": name, "deletes": [{"q": {}, "limit": 0}]})
    return Command(database, {"drop": name})


def index_specification(index: Index) -> Document:
    """Return an index as createIndexes takes it and listIndexes gives it back."""
    specification: Document = {"name": index.name, "key": dict(index.fields)}
    if index.unique:
        specification["unique"] = True
    if index.sparse:
        specification["sparse"] = True
    if index.expire_after_seconds is not None:
        specification["expireAfterSeconds"] = index.expire_after_seconds
    if index.partial_filter is not None:
        specification["partialFilterExpression"] = index.partial_filter
    if index.collation is not None:
        specification["collation"] = index.collation
    return specification


def create_index(database: str, collection: str, specification: Document) -> Command:
    return Command(database, {"createIndexes": collection, "indexes": [specification]})


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
        "authenticationRestrictions": [],
    }


def create_role(database: str, role: Role) -> Command:
    return Command(USER_DATABASE, {"createRole": role.name, **role_options(database, role)})


def change_role(database: str, role: Role) -> Command:
    return Command(USER_DATABASE, {"updateRole": role.name, **role_options(database, role)})


def drop_role(database: str, name: str) -> Command:
    return Command(database, {"dropRole": name})


def user_options(user: User) -> Document:
    restrictions = [{"clientSource": list(user.client_source)}] if user.client_source else []
    return {
        "roles": _granted(user.roles),
        "mechanisms": MECHANISMS,
        "authenticationRestrictions": restrictions,
        "customData": {},
    }


def create_user(user: User, password: str) -> Command:
    return Command(USER_DATABASE, {"createUser": user.name, "pwd": password, **user_options(user)})


def change_user(user: User, password: str) -> Command:
    return Command(USER_DATABASE, {"updateUser": user.name, "pwd": password, **user_options(user)})


def drop_user(database: str, name: str) -> Command:
    return Command(database, {"dropUser": name})


def set_parameter(name: str, value: Any, member: str) -> Command:
    return Command(USER_DATABASE, {"setParameter": 1, name: value}, member)


def set_profiling_level(database: str, level: int) -> Command:
    return Command(database, {"profile": level})
