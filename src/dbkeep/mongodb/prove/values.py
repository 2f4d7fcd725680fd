"""Values that a declared schema allows: plain ones, the smallest and largest, and ones that repeat each other."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from bson import Binary, Decimal128, Int64, ObjectId, Timestamp

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.json_schema import types_of
from dbkeep.mongodb.prove.patterns import matching

Size = Literal["plain", "smallest", "largest"]
# Nothing of these expires while it is looked at.
FIRST_DAY = datetime(2100, 1, 1, tzinfo=UTC)
DAYS = 4
FEW = 3
MOST = 1000
# How often a string is one that was made before, so that rules about equal values can be broken.
REPEATS = 0.5


class Values:
    """Makes values from one seed. With `repeats` strings of a pattern come again."""

    def __init__(self, seed: int, *, size: Size = "plain", repeats: bool = False) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - the same values each time, no secrets
        self._size, self._repeats = size, repeats
        self._made: dict[str, list[str]] = {}

    def document(self, schema: Document) -> Document:
        """Return a document of a schema; the rules beside the schema are not looked at."""
        found = self.value(schema)
        assert isinstance(found, dict)  # noqa: S101 - a declared schema is one of documents
        return found

    def value(self, schema: Document) -> Any:
        """Return a value of a schema."""
        if "enum" in schema:
            return self.chance.choice(schema["enum"])
        kind = self.chance.choice(types_of(schema))
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return self._string(schema)
            case "int" | "long" | "double" | "decimal":
                least = schema.get("minimum", 0)
                return _number(kind, self.chance.randint(least, schema.get("maximum", least + MOST)))
        return self._scalar(kind)

    def _object(self, schema: Document) -> Document:
        required = schema.get("required", ())
        share = {"plain": 0.5, "smallest": 0.0, "largest": 1.0}[self._size]
        names = [name for name in schema["properties"] if name in required or self.chance.random() < share]
        return {name: self.value(schema["properties"][name]) for name in names}

    def _array(self, schema: Document) -> list[Any]:
        least, most = schema.get("minItems", 0), schema["maxItems"]
        return self.items(schema, self._count(least, most))

    def items(self, schema: Document, number: int) -> list[Any]:
        """Return different items for an array of a schema, as many as can be found up to `number`."""
        found: list[Any] = []
        for _ in range(number * 20):
            if len(found) == number:
                break
            item = self.value(schema["items"])
            if item not in found:
                found.append(item)
        return found

    def _count(self, least: int, most: int) -> int:
        if self._size == "plain":
            return self.chance.randint(least, min(most, least + FEW))
        return least if self._size == "smallest" else most

    def _string(self, schema: Document) -> str:
        pattern, most = schema.get("pattern"), schema.get("maxLength", 100)
        if pattern is None:
            length = self._count(schema.get("minLength", 0), most)
            return "".join(self.chance.choice("aé z9") for _ in range(length))
        made = self._made.setdefault(pattern, [])
        if self._repeats and made and self.chance.random() < REPEATS:
            return self.chance.choice(made)
        made.append(matching(pattern, self.chance))
        return made[-1]

    def _scalar(self, kind: str) -> Any:
        match kind:
            case "objectId":
                return ObjectId(self.chance.randbytes(12))
            case "bool":
                return self.chance.random() < 0.5
            case "date":
                return FIRST_DAY + timedelta(days=self.chance.randrange(DAYS))
            case "binData":
                return Binary(self.chance.randbytes(4))
            case "timestamp":
                return Timestamp(self.chance.randrange(1, 1000), 1)
        return None


def _number(kind: str, value: int) -> Any:
    match kind:
        case "long":
            return Int64(value)
        case "double":
            return float(value)
        case "decimal":
            return Decimal128(str(value))
    return value
