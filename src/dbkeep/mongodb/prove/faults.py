"""Every way to spoil a good document that its declared schema names, each with the update that would do it."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.json_schema import types_of
from dbkeep.mongodb.prove.attempts import DOCUMENT_INVALID
from dbkeep.mongodb.prove.values import FIRST_DAY, Values

Path = tuple[str | int, ...]
DEEP: Any = "x"
for _ in range(80):
    DEEP = {"x": DEEP}
# Values by what they are called, each with its BSON type.
SPECIMENS: Mapping[str, tuple[str, Any]] = {
    "a double": ("double", 1.5),
    "a whole double": ("double", 1.0),
    "NaN": ("double", float("nan")),
    "Infinity": ("double", float("inf")),
    "a string": ("string", "x"),
    "an empty string": ("string", ""),
    "an empty object": ("object", {}),
    "an operator": ("object", {"$gt": ""}),
    "a deep object": ("object", DEEP),
    "an empty array": ("array", []),
    "an array": ("array", ["x"]),
    "binary data": ("binData", Binary(b"x")),
    "an ObjectId": ("objectId", ObjectId(bytes(12))),
    "a boolean": ("bool", True),
    "a date": ("date", FIRST_DAY),
    "null": ("null", None),
    "a regular expression": ("regex", Regex(".")),
    "JavaScript": ("javascript", Code("return 1")),
    "an integer": ("int", 1),
    "a long": ("long", Int64(1)),
    "a timestamp": ("timestamp", Timestamp(1, 1)),
    "a decimal": ("decimal", Decimal128("1")),
    "a decimal NaN": ("decimal", Decimal128("NaN")),
    "MinKey": ("minKey", MinKey()),
    "MaxKey": ("maxKey", MaxKey()),
}
EXTRA_NAMES = ("dbkeep_extra", "__proto__", "$where", "$ne", "a.b", "")
# The server itself refuses some names, and some values of _id (BadValue, FailedToParse, InvalidIdField, ...).
OF_THE_SERVER = frozenset({DOCUMENT_INVALID, 2, 9, 52, 53, 54, 55, 56, 57})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document: `what` is it, at `path`; `update` does it to the good one, None if none can.

    `codes` are what the server may refuse it with.
    """

    path: str
    what: str
    document: Document
    update: Document | None
    codes: frozenset[int] = frozenset({DOCUMENT_INVALID})

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.path else self.what


def faults(schema: Document, good: Document, values: Values) -> Iterator[Fault]:
    """Yield the faults of a good document that are about what its schema says."""
    for path, change in _changes(schema, good, (), values):
        yield _fault(good, path, change)


@dataclass(frozen=True, slots=True)
class _Change:
    """`kind` is set, unset, push (`value` is a list of items) or add (a field of the name `name`)."""

    what: str
    kind: str
    value: Any = None
    name: str = ""


def _changes(schema: Document, value: Any, path: Path, values: Values) -> Iterator[tuple[Path, _Change]]:
    for change in _of_value(schema, value, values, is_root=not path):
        yield path, change
    if isinstance(value, dict):
        for name, declared in schema["properties"].items():
            if name in value:
                # The server gives a document without one an _id.
                if name in schema.get("required", ()) and (*path, name) != ("_id",):
                    yield (*path, name), _Change("missing", "unset")
                yield from _changes(declared, value[name], (*path, name), values)
    elif isinstance(value, list) and value:
        yield from _changes(schema["items"], value[0], (*path, 0), values)


def _of_value(schema: Document, value: Any, values: Values, *, is_root: bool) -> Iterator[_Change]:
    if isinstance(value, dict):
        for name in EXTRA_NAMES:
            yield _Change(f"a field {name!r} more", "add", 1, name)
    types = types_of(schema)
    for what, (kind, specimen) in SPECIMENS.items():
        if not is_root and kind not in types:
            yield _Change(what, "set", specimen)
    if isinstance(value, list):
        yield from _of_array(schema, value, values)
    elif "enum" in schema:
        for other in (f"{value}x", str(value).upper(), f" {value}"):
            yield _Change("not in the enum", "set", other)
    elif isinstance(value, str):
        yield from _of_string(schema, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _of_number(schema, value)


def _of_array(schema: Document, value: list[Any], values: Values) -> Iterator[_Change]:
    least, most = schema.get("minItems", 0), schema["maxItems"]
    if least:
        yield _Change("too few items", "set", value[: least - 1])
    items = values.items(schema, most + 1)
    if len(items) == most + 1:
        kept = [*value, *(item for item in items if item not in value)][: most + 1]
        yield _Change("too many items", "set", kept)
        yield _Change("pushed beyond its bound", "push", kept[len(value) :])
    if schema.get("uniqueItems") and value and len(value) < most:
        yield _Change("an item twice", "push", [value[0]])
    for specimen in (None, 1.5, {"$ne": 1}, ["x"]):
        if len(value) < most:
            yield _Change(f"an item {specimen!r}", "push", [specimen])


def _of_string(schema: Document, value: str) -> Iterator[_Change]:
    least, most, pattern = schema.get("minLength", 0), schema["maxLength"], schema.get("pattern", "")
    if least:
        yield _Change("too short", "set", value[: least - 1])
    longer = (value + "\n" * (most + 1 - len(value)), value.ljust(most + 1, "a"), value.ljust(most + 1, "é"))
    # Where the pattern allows some of these, only they show that the length is bounded.
    allowed = [text for text in longer if re.search(pattern, text)]
    for text in dict.fromkeys(allowed or longer):
        yield _Change("too long", "set", text)
    if pattern:
        others = (value.upper(), value[::-1], f"x{value[1:]}", f"{value[:-1]}é", " " * max(least, 1), f"\n{value[:-1]}")
        for text in dict.fromkeys(others):
            if least <= len(text) <= most and not re.search(pattern, text):
                yield _Change(f"another pattern {text[:12]!r}", "set", text)


def _of_number(schema: Document, value: float) -> Iterator[_Change]:
    kind = type(value)
    if "minimum" in schema:
        yield _Change("too small", "set", kind(schema["minimum"] - 1))
    if "maximum" in schema:
        yield _Change("too large", "set", kind(schema["maximum"] + 1))


def _fault(good: Document, path: Path, change: _Change) -> Fault:
    document = copy.deepcopy(good)
    here: Any = document
    parents = path if change.kind in {"add", "push"} else path[:-1]
    for part in parents:
        here = here[part]
    dotted = ".".join(map(str, path))
    update: Document | None
    match change.kind:
        case "unset":
            del here[path[-1]]
            update = {"$unset": {dotted: ""}}
        case "push":
            here.extend(change.value)
            update = {"$push": {dotted: {"$each": change.value}}}
        case "add":
            here[change.name] = change.value
            update = {"$set": {".".join(filter(None, (dotted, change.name))): change.value}} if change.name else None
        case _:
            here[path[-1]] = change.value
            update = {"$set": {dotted: change.value}}
    of_the_server = change.kind == "add" or path[:1] == ("_id",)
    codes = OF_THE_SERVER if of_the_server else frozenset({DOCUMENT_INVALID})
    return Fault(dotted, change.what, document, None if path[:1] == ("_id",) else update, codes)


def changed(good: Document, other: Document) -> Document:
    """Return the update that makes `other` of a good document, with the same _id."""
    own = [name for name in good.keys() | other.keys() if name != "_id"]
    different = [name for name in own if (name in good, good.get(name)) != (name in other, other.get(name))]
    update = {
        "$set": {name: other[name] for name in different if name in other},
        "$unset": {name: "" for name in different if name not in other},
    }
    return {operator: fields for operator, fields in update.items() if fields}


def kinds(found: Sequence[Fault]) -> int:
    """Return how many different faults there are."""
    return len({str(fault) for fault in found})
