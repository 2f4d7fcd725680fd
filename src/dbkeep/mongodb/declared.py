"""Reads mongo/ into checked models: collections, views, roles.yml and server.yml, also across files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from dbkeep.declared import Lines, line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError
from dbkeep.mongodb import json_schema
from dbkeep.mongodb.migrations import files as migration_files
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.models import Access, Collection, Declared, Index, Server, View

# What a service may inherit. Every other built-in role reaches whole databases (CIS MongoDB 3.1, 3.2).
BUILT_IN_ROLES = frozenset({"backup", "clusterMonitor"})

# Each of these opens every other action, skips validation, or writes past it (MongoDB manual, "Privilege Actions").
FORBIDDEN_ACTIONS = frozenset({"anyAction", "internal", "bypassDocumentValidation", "applyOps", "forceUUID"})

# What the server takes in a query and not in a validator, so that asking it before does not show it.
FORBIDDEN_IN_VALIDATORS = frozenset({"$where", "$text", "$near", "$nearSphere", "$function", "$accumulator", "$rand"})

# MongoDB manual, "Partial Indexes", for 6.0.
PARTIAL_OPERATORS = frozenset({"$eq", "$exists", "$gt", "$gte", "$lt", "$lte", "$type", "$and", "$or", "$in"})

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
    server = read_model(folder / "server.yml", Server)
    for collection in collections:
        _refuse(folder / f"collections/{collection.name}.yml", _collection_problems(collection))
    names = {collection.name for collection in collections}
    for view in views:
        _refuse(folder / f"views/{view.name}.yml", _view_problems(view, names))
    _refuse(folder / "roles.yml", _access_problems(access, names | {view.name for view in views}))
    parameters = [parameter.name for parameter in server.parameters]
    _refuse(folder / "server.yml", _duplicates(parameters, ("parameters",), "name"))
    return Declared(
        collections=collections,
        views=views,
        roles=access.roles,
        users=access.users,
        server=server,
        migrations=migration_files.read(folder / "migrations", root),
    )


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
    if collection.name == RECORDS:
        yield ("name",), "dbkeep keeps its migrations in a collection of this name"
    if json_schema.types_of(schema) != ["object"]:
        yield ("json_schema", "bsonType"), "must be object: documents are objects"
    if "_id" not in schema["properties"]:
        yield ("json_schema", "properties"), "_id is missing, so no document would be valid"
    for number, rule in enumerate(collection.rules):
        for path in json_schema.field_paths(rule.expr):
            if json_schema.field(schema, path) is None:
                yield ("rules", number, "expr"), f"reads the undeclared field {path!r}"
        for operator in FORBIDDEN_IN_VALIDATORS.intersection(json_schema.operators(rule.expr)):
            yield ("rules", number, "expr"), f"the server does not take {operator} in a validator"
    if collection.time_series:
        yield from _time_series_problems(collection)
    yield from _duplicates([index.name for index in collection.indexes], ("indexes",), "name")
    yield from _duplicates([index.fields for index in collection.indexes], ("indexes",), "keys")
    for number, index in enumerate(collection.indexes):
        yield from _index_problems(schema, index, ("indexes", number))


def _index_problems(schema: dict[str, Any], index: Index, at: json_schema.Location) -> Iterator[json_schema.Problem]:
    for place, (path, _) in enumerate(index.fields):
        if json_schema.field(schema, path) is None:
            yield (*at, "keys", place), f"indexes the undeclared field {path!r}"
    if index.expire_after_seconds is not None and not _can_expire(schema, index):
        yield (*at, "expire_after_seconds"), "needs an index on one field of type date"
    if index.sparse and index.partial_filter is not None:
        yield (*at, "sparse"), "the server does not combine it with partial_filter"
    for operator in json_schema.operators(index.partial_filter):
        if operator not in PARTIAL_OPERATORS:
            allowed = ", ".join(sorted(PARTIAL_OPERATORS))
            yield (*at, "partial_filter"), f"a partial index does not take {operator}, only {allowed}"
    for path in json_schema.filtered_paths(index.partial_filter):
        if json_schema.field(schema, path) is None:
            yield (*at, "partial_filter"), f"filters by the undeclared field {path!r}"


def _time_series_problems(collection: Collection) -> Iterator[json_schema.Problem]:
    assert collection.time_series  # noqa: S101 - the caller asked
    fields = {"time_field": collection.time_series.time_field, "meta_field": collection.time_series.meta_field}
    for key, path in fields.items():
        declared = json_schema.field(collection.json_schema, path) if path else None
        if path and declared is None:
            yield ("time_series", key), f"the field {path!r} is not declared"
        if key == "time_field" and declared is not None and json_schema.types_of(declared) != ["date"]:
            yield ("time_series", key), "must be a field of type date"


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
