"""What MongoDB should hold: mongo/collections, mongo/views and mongo/roles.yml as checked models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from dbkeep.declared import Lines, Model, line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError
from dbkeep.mongodb import json_schema

DATABASE = "chat"

# What a service may inherit. Every other built-in role reaches whole databases (CIS MongoDB 3.1, 3.2).
BUILT_IN_ROLES = frozenset({"backup", "clusterMonitor"})

# Each of these opens every other action, skips validation, or writes past it (MongoDB manual, "Privilege Actions").
FORBIDDEN_ACTIONS = frozenset({"anyAction", "internal", "bypassDocumentValidation", "applyOps", "forceUUID"})

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, Field(min_length=1)]


class Index(Model):
    """An index and the query it serves. `keys` is a list because the order of the fields matters."""

    name: Name
    query: Text
    keys: Annotated[
        tuple[Annotated[dict[str, Literal[1, -1]], Field(min_length=1, max_length=1)], ...], Field(min_length=1)
    ]
    unique: bool = False
    expire_after_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    partial_filter: dict[str, Any] | None = None
    collation: dict[str, Any] | None = None

    @property
    def fields(self) -> tuple[tuple[str, int], ...]:
        return tuple(item for key in self.keys for item in key.items())


class Rule(Model):
    """What a schema cannot say: an aggregation expression that is true for every good document."""

    why: Text
    expr: dict[str, Any]


class Collection(Model):
    name: Name
    json_schema: dict[str, Any]
    rules: tuple[Rule, ...] = ()
    indexes: tuple[Index, ...] = ()
    validation_level: Literal["strict", "moderate"] = "strict"
    validation_action: Literal["error", "warn"] = "error"

    @property
    def validator(self) -> dict[str, Any]:
        """The whole validator as the server stores it."""
        rules = {"$expr": {"$and": [rule.expr for rule in self.rules]}} if self.rules else {}
        return {"$jsonSchema": self.json_schema, **rules}


class View(Model):
    name: Name
    view_on: Name
    pipeline: tuple[dict[str, Any], ...]


class Privilege(Model):
    """Actions on one collection of the database, on a whole database, or on the cluster."""

    collection: Name | None = None
    database: Literal["admin", "chat"] | None = None
    cluster: Literal[True] | None = None
    actions: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_resource(self) -> Privilege:
        if sum(part is not None for part in (self.collection, self.database, self.cluster)) != 1:
            raise ValueError("name exactly one of collection, database and cluster")
        return self


class Role(Model):
    name: Name
    purpose: Text
    privileges: tuple[Privilege, ...] = ()
    roles: tuple[str, ...] = ()


class User(Model):
    name: Name
    roles: Annotated[tuple[Name, ...], Field(min_length=1)]


class Access(Model):
    """mongo/roles.yml."""

    roles: tuple[Role, ...]
    users: tuple[User, ...]


class Declared(Model):
    """Everything MongoDB should hold. Users and custom roles live in the database `admin`."""

    database: str = DATABASE
    collections: tuple[Collection, ...]
    views: tuple[View, ...]
    roles: tuple[Role, ...]
    users: tuple[User, ...]


Part = TypeVar("Part", Collection, View)


def read(root: Path) -> Declared:
    """Return the declared state in `root`/mongo, checked within each file and across files.

    Raises DeclaredError with file, line and key of the first thing that is wrong.
    """
    folder = root / "mongo"
    collections = _read_folder(folder / "collections", Collection)
    if not collections:
        raise DeclaredError("declares no collection", path=folder / "collections")
    views = _read_folder(folder / "views", View)
    access = read_model(folder / "roles.yml", Access)
    for collection in collections:
        _refuse(folder / f"collections/{collection.name}.yml", _collection_problems(collection))
    names = {collection.name for collection in collections}
    for view in views:
        _refuse(folder / f"views/{view.name}.yml", _view_problems(view, names))
    _refuse(folder / "roles.yml", _access_problems(access, names | {view.name for view in views}))
    return Declared(collections=collections, views=views, roles=access.roles, users=access.users)


def _read_folder(folder: Path, model: type[Part]) -> tuple[Part, ...]:
    parts = []
    for path in sorted(folder.glob("*.yml")):
        part = read_model(path, model)
        if part.name != path.stem:
            raise DeclaredError(
                f"the file is called {path.stem}", path=path, line=_lines(path).get(("name",)), key="name"
            )
        parts.append(part)
    return tuple(parts)


def _lines(path: Path) -> Lines:
    return read_yaml(path)[1]


def _refuse(path: Path, problems: Iterator[json_schema.Problem]) -> None:
    for location, message in problems:
        key = ".".join(map(str, location)) or None
        raise DeclaredError(message, path=path, line=line_of(_lines(path), location), key=key)


def _collection_problems(collection: Collection) -> Iterator[json_schema.Problem]:
    schema = collection.json_schema
    yield from json_schema.problems(schema, ("json_schema",))
    if json_schema.types_of(schema) != ["object"]:
        yield ("json_schema", "bsonType"), "must be object: documents are objects"
    if "_id" not in schema["properties"]:
        yield ("json_schema", "properties"), "_id is missing, so no document would be valid"
    for number, rule in enumerate(collection.rules):
        for path in json_schema.field_paths(rule.expr):
            if json_schema.field(schema, path) is None:
                yield ("rules", number, "expr"), f"reads the undeclared field {path!r}"
    yield from _duplicates([index.name for index in collection.indexes], ("indexes",), "name")
    yield from _duplicates([index.fields for index in collection.indexes], ("indexes",), "keys")
    for number, index in enumerate(collection.indexes):
        at: json_schema.Location = ("indexes", number)
        for place, (path, _) in enumerate(index.fields):
            if json_schema.field(schema, path) is None:
                yield (*at, "keys", place), f"indexes the undeclared field {path!r}"
        if index.expire_after_seconds is not None and not _can_expire(schema, index):
            yield (*at, "expire_after_seconds"), "needs an index on one field of type date"


def _can_expire(schema: dict[str, Any], index: Index) -> bool:
    declared = json_schema.field(schema, index.fields[0][0]) or {}
    return len(index.fields) == 1 and json_schema.types_of(declared) == ["date"]


def _view_problems(view: View, collections: set[str]) -> Iterator[json_schema.Problem]:
    if view.name in collections:
        yield ("name",), "a collection has this name"
    if view.view_on not in collections:
        yield ("view_on",), f"there is no collection {view.view_on!r}"


def _access_problems(access: Access, namespaces: set[str]) -> Iterator[json_schema.Problem]:
    known = {role.name for role in access.roles}
    yield from _duplicates([role.name for role in access.roles], ("roles",), "name")
    yield from _duplicates([user.name for user in access.users], ("users",), "name")
    for number, role in enumerate(access.roles):
        for place, privilege in enumerate(role.privileges):
            at: json_schema.Location = ("roles", number, "privileges", place)
            if privilege.collection and privilege.collection not in namespaces:
                yield (*at, "collection"), f"there is no collection or view {privilege.collection!r}"
            for forbidden in FORBIDDEN_ACTIONS.intersection(privilege.actions):
                yield (*at, "actions"), f"{forbidden} opens more than a service may have"
        for place, name in enumerate(role.roles):
            if name not in known | BUILT_IN_ROLES:
                allowed = ", ".join(sorted(BUILT_IN_ROLES))
                yield ("roles", number, "roles", place), f"{name!r} is neither declared here nor one of {allowed}"
    for number, user in enumerate(access.users):
        for place, name in enumerate(user.roles):
            if name not in known:
                yield ("users", number, "roles", place), f"there is no role {name!r}"


def _duplicates(values: list[Any], at: json_schema.Location, key: str) -> Iterator[json_schema.Problem]:
    for number, value in enumerate(values):
        if value in values[:number]:
            yield (*at, number, key), "stands twice"
