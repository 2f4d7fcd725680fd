"""Mutants of validators: each keyword of a schema loosened, each rule left out, the whole of it turned off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dbkeep.mongodb import json_schema, statements
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.json_schema import types_of
from dbkeep.mongodb.models import Collection
from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant

Place = tuple[str, ...]
"""The keys that lead to a part of a schema."""
Loosen = Callable[[Document], None]


def schemas(ground: Ground) -> Iterator[Mutant]:
    """Loosen one keyword of one field after the other."""
    for collection in _validating(ground):
        for place, path, part in _parts(collection.json_schema, (), ""):
            for what, kind, loosen, about in _loosened(part, path):
                schema = _copy(collection.json_schema)
                here = schema
                for key in place:
                    here = here[key]
                loosen(here)
                validator = {**collection.validator, "$jsonSchema": schema}
                name = f"{collection.name}{f'.{path}' if path else ''}: {what}"
                part_of = "schema, and a rule" if _is_in_a_rule(collection, about) else "schema"
                yield _mutant(ground, collection, name, f"{part_of}: {kind}", {"validator": validator}, about=about)


def rules(ground: Ground) -> Iterator[Mutant]:
    """Leave out one rule after the other."""
    for collection in _validating(ground):
        for rule in collection.rules:
            left = [other.expr for other in collection.rules if other != rule]
            validator = {"$jsonSchema": collection.json_schema} | ({"$expr": {"$and": left}} if left else {})
            name = f"{collection.name}: without the rule that {rule.why}"
            yield _mutant(ground, collection, name, "rule left out", {"validator": validator})


def validation(ground: Ground) -> Iterator[Mutant]:
    """Turn validation off, in every way there is."""
    for collection in _validating(ground):
        expressions = {key: value for key, value in collection.validator.items() if key != "$jsonSchema"}
        for what, options in (
            ("validator off", {"validator": {}}),
            ("no schema", {"validator": expressions}),
            ("level off", {"validationLevel": "off"}),
            ("level moderate", {"validationLevel": "moderate"}),
            ("action warn", {"validationAction": "warn"}),
        ):
            if what != "no schema" or expressions:
                yield _mutant(ground, collection, f"{collection.name}: {what}", f"validation: {what}", options)


def _copy(value: Any) -> Any:
    """Return a deep copy that shares nothing in itself, as what a YAML file repeats by an anchor does."""
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _is_in_a_rule(collection: Collection, path: str) -> bool:
    field = ".".join(part for part in path.split(".") if part != "0")
    return any(field == read for rule in collection.rules for read in json_schema.field_paths(rule.expr))


def _validating(ground: Ground) -> list[Collection]:
    return [collection for collection in ground.declared.collections if collection.validator]


def _mutant(
    ground: Ground, collection: Collection, name: str, kind: str, options: Document, *, about: str = ""
) -> Mutant:
    change = statements.change_collection(ground.database, collection.name, options)
    undo = statements.change_collection(ground.database, collection.name, statements.validation(collection))
    return Mutant(name, kind, (change,), (undo,), about=frozenset({collection.name, about}))


def _parts(schema: Document, place: Place, path: str) -> Iterator[tuple[Place, str, Document]]:
    """Yield every part of a schema with the path of the field that it is about, as faults name it."""
    yield place, path, schema
    for name, part in schema.get("properties", {}).items():
        yield from _parts(part, (*place, "properties", name), f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _parts(schema["items"], (*place, "items"), f"{path}.0")


def _loosened(part: Document, path: str) -> Iterator[tuple[str, str, Loosen, str]]:
    """Yield what is loosened, its kind, how, and the field that shows it."""
    for name in part.get("required", ()):
        field = f"{path}.{name}" if path else name
        if field != "_id":  # the server gives one to a document that has none
            yield f"{name} not required", "not required", _without("required", name), field
    if "additionalProperties" in part:
        yield "other fields", "other fields", _set("additionalProperties", True), path
    if path and "enum" not in part:  # whose values have their types
        yield "null too", "null too", _set("bsonType", [*types_of(part), "null"]), path
        yield "any type", "any type", _drop("bsonType"), path
    for keyword, step in (("minLength", -1), ("maxLength", 1), ("minItems", -1), ("maxItems", 1), ("minimum", -1)):
        # A bound of none is what there is without it.
        if keyword in part and (step > 0 or keyword == "minimum" or part[keyword] > 0):
            yield f"{keyword} {part[keyword] + step}", keyword, _set(keyword, part[keyword] + step), path
            yield f"no {keyword}", keyword, _drop(keyword), path
    if "maximum" in part:
        yield f"maximum {part['maximum'] + 1}", "maximum", _set("maximum", part["maximum"] + 1), path
    for keyword in ("pattern", "uniqueItems"):
        if keyword in part:
            yield f"no {keyword}", keyword, _drop(keyword), path
    if "enum" in part:
        yield "one value more", "enum", _set("enum", [*part["enum"], f"{part['enum'][0]}x"]), path
        yield "no enum", "enum", _drop("enum"), path


def _set(keyword: str, value: Any) -> Loosen:
    return lambda part: part.update({keyword: value})


def _drop(keyword: str) -> Loosen:
    def loosen(part: Document) -> None:
        del part[keyword]

    return loosen


def _without(keyword: str, name: str) -> Loosen:
    def loosen(part: Document) -> None:
        left = [other for other in part[keyword] if other != name]
        if left:
            part[keyword] = left
        else:
            del part[keyword]  # the server takes no empty list

    return loosen
