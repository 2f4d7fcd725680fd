"""What a declared $jsonSchema must be so that it leaves no gap: every field named, typed and bounded.

MongoDB manual, "$jsonSchema"; DISA STIG SV-252181 (data integrity). The server accepts far looser schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Location = tuple[str | int, ...]
Problem = tuple[Location, str]

_NUMBER = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_KEYWORDS: dict[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties", "minProperties", "maxProperties"}),
    "array": frozenset({"items", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    **dict.fromkeys(("int", "long", "double", "decimal"), _NUMBER),
    **dict.fromkeys(("objectId", "bool", "date", "null", "binData", "timestamp"), frozenset()),
}
_ANYWHERE = frozenset({"bsonType", "enum", "title", "description"})


def problems(schema: Any, at: Location = ()) -> Iterator[Problem]:
    """Yield what is wrong with a schema: where (path of keys) and what, top down."""
    if not isinstance(schema, dict):
        yield at, "a schema is a mapping"
        return
    types = types_of(schema)
    if not types:
        yield at, "bsonType is missing"
        return
    for name in types:
        if name not in _KEYWORDS:
            yield (*at, "bsonType"), f"there is no bsonType {name!r}; use one of {', '.join(_KEYWORDS)}"
            return
    allowed = _ANYWHERE.union(*(_KEYWORDS[name] for name in types))
    for keyword in schema:
        if keyword not in allowed:
            yield (*at, keyword), f"{keyword} does not apply to {' or '.join(types)}"
    if "object" in types:
        yield from _object_problems(schema, at)
    if "array" in types:
        yield from _array_problems(schema, at)
    if "string" in types:
        yield from _string_problems(schema, at)


def _object_problems(schema: dict[str, Any], at: Location) -> Iterator[Problem]:
    fields = schema.get("properties")
    if schema.get("additionalProperties") is not False:
        yield (*at, "additionalProperties"), "must be false, or undeclared fields get in"
    if not isinstance(fields, dict):
        yield (*at, "properties"), "an object declares its fields in properties"
        return
    required = schema.get("required", [])
    if not isinstance(required, list):
        yield (*at, "required"), "must be a list of field names"
        return
    for index, name in enumerate(required):
        if name not in fields:
            yield (*at, "required", index), f"required field {name!r} is not in properties"
    for name, declared in fields.items():
        if isinstance(name, str):
            yield from problems(declared, (*at, "properties", name))
        else:
            yield (*at, "properties", str(name)), "YAML does not read this field name as text; quote it"


def _array_problems(schema: dict[str, Any], at: Location) -> Iterator[Problem]:
    if not isinstance(schema.get("maxItems"), int):
        yield (*at, "maxItems"), "an array needs a bound"
    yield from problems(schema.get("items"), (*at, "items"))


def _string_problems(schema: dict[str, Any], at: Location) -> Iterator[Problem]:
    pattern = schema.get("pattern")
    if pattern is not None:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            yield (*at, "pattern"), f"not a regular expression: {error}"
    # A pattern is no bound: its $ also matches before a line break at the end.
    if "enum" not in schema and not isinstance(schema.get("maxLength"), int):
        yield at, "a string needs maxLength or an enum"


def types_of(schema: dict[str, Any]) -> list[str]:
    """Return the BSON types that a schema allows."""
    declared = schema.get("bsonType")
    if isinstance(declared, list):
        return [str(name) for name in declared]
    return [] if declared is None else [str(declared)]


def field(schema: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Return the schema of a dotted field path, through arrays as queries go, or None when it is not declared."""
    here: dict[str, Any] = schema
    for name in path.split("."):
        if "array" in types_of(here):
            here = here["items"]
        found = here.get("properties", {}).get(name)
        if found is None:
            return None
        here = found
    return here


def field_paths(expression: Any) -> Iterator[str]:
    """Yield the field paths ("$a.b" gives a.b) that an aggregation expression reads."""
    if isinstance(expression, str):
        if expression.startswith("$") and not expression.startswith("$$"):
            yield expression[1:]
    elif isinstance(expression, dict):
        for operator, operand in expression.items():
            if operator != "$literal":
                yield from field_paths(operand)
    elif isinstance(expression, list | tuple):
        for item in expression:
            yield from field_paths(item)


def operators(expression: Any) -> Iterator[str]:
    """Yield every operator ("$and") of an expression or a query."""
    if isinstance(expression, dict):
        for name, operand in expression.items():
            if str(name).startswith("$"):
                yield str(name)
            if name != "$literal":
                yield from operators(operand)
    elif isinstance(expression, list | tuple):
        for item in expression:
            yield from operators(item)


def filtered_paths(query: Any) -> Iterator[str]:
    """Yield the field paths that a query ({"a.b": 1, "$and": [...]}) filters by."""
    for name, operand in (query or {}).items():
        if not name.startswith("$"):
            yield name
        elif isinstance(operand, list):
            for part in operand:
                yield from filtered_paths(part)
