"""Documents for a proof: strings for patterns, good values of a schema, and every fault that its keywords name."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from dbkeep.mongodb.prove.faults import changed, faults, kinds
from dbkeep.mongodb.prove.patterns import matching
from dbkeep.mongodb.prove.privileges import Target, actions
from dbkeep.mongodb.prove.values import Values

SCHEMA: dict[str, Any] = {
    "bsonType": "object",
    "additionalProperties": False,
    "required": ["_id", "name", "tags"],
    "properties": {
        "_id": {"bsonType": "objectId"},
        "name": {"bsonType": "string", "minLength": 2, "maxLength": 4},
        "kind": {"bsonType": "string", "enum": ["a", "b"]},
        "tags": {"bsonType": "array", "minItems": 1, "maxItems": 2, "items": {"bsonType": "int", "minimum": 0}},
    },
}
GOOD: dict[str, Any] = {"_id": 1, "name": "abc", "kind": "a", "tags": [7]}


@pytest.mark.parametrize(
    "pattern",
    ["^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "^https://", "^(red|green)+[^a-c]?$", r"^\d{2,}.x*$", "^[\\w-]+$"],
)
def test_a_string_matches_its_pattern(pattern: str) -> None:
    chance = random.Random(1)  # noqa: S311
    for _ in range(50):
        assert re.search(pattern, matching(pattern, chance))


def test_a_pattern_that_is_not_built_is_said() -> None:
    with pytest.raises(ValueError, match="ASSERT"):
        matching("^(?=a)a$", random.Random(1))  # noqa: S311


def test_values_are_the_same_each_time_and_of_the_asked_size() -> None:
    assert Values(3).document(SCHEMA) == Values(3).document(SCHEMA)
    smallest, largest = (Values(1, size=size).document(SCHEMA) for size in ("smallest", "largest"))
    assert smallest.keys() == {"_id", "name", "tags"}
    assert (len(smallest["name"]), len(smallest["tags"])) == (2, 1)
    assert (len(largest["name"]), len(largest["tags"])) == (4, 2)


def test_every_keyword_has_a_fault() -> None:
    found = {str(fault): fault for fault in faults(SCHEMA, GOOD, Values(1))}
    assert {
        "name: missing", "tags: missing", "name: null", "name: too short", "name: too long", "kind: not in the enum",
        "tags: too few items", "tags: too many items", "tags: pushed beyond its bound", "tags: a string",
        "tags.0: too small", "tags.0: NaN", "a field 'dbkeep_extra' more", "a field '$ne' more", "_id: null",
    } <= found.keys()  # fmt: skip
    assert "_id: missing" not in found
    pushed = found["tags: pushed beyond its bound"].document["tags"][1:]
    assert found["tags: pushed beyond its bound"].update == {"$push": {"tags": {"$each": pushed}}}
    assert found["tags.0: too small"].document["tags"] == [-1]
    assert found["name: missing"].update == {"$unset": {"name": ""}}
    assert GOOD == {"_id": 1, "name": "abc", "kind": "a", "tags": [7]}
    assert kinds(list(found.values())) == len(found)


def test_an_update_is_what_makes_one_document_of_another() -> None:
    assert changed(GOOD, {"_id": 2, "name": "abd", "tags": [7]}) == {"$set": {"name": "abd"}, "$unset": {"kind": ""}}


@pytest.mark.parametrize(
    ("resource", "target", "reached"),
    [
        ({"db": "chat", "collection": "a"}, Target("chat", "a"), True),
        ({"db": "chat", "collection": "a"}, Target("chat", "b"), False),
        ({"db": "chat", "collection": ""}, Target("chat", "b"), True),
        ({"db": "chat", "collection": ""}, Target("chat"), True),
        ({"db": "chat", "collection": ""}, Target("chat", "system.js"), False),
        ({"db": "", "collection": ""}, Target("local", "replset.minvalid"), False),
        ({"db": "", "collection": "system.js"}, Target("chat", "system.js"), True),
        ({"cluster": True}, Target(), True),
        ({"cluster": True}, Target("chat", "a"), False),
        ({"db": "", "collection": ""}, Target(), False),
        ({"anyResource": True}, Target("chat", "system.js"), True),
        ({"system_buckets": ""}, Target("chat", "a"), False),
    ],
)
def test_a_resource_reaches(resource: dict[str, Any], target: Target, *, reached: bool) -> None:
    assert bool(actions([{"resource": resource, "actions": ["find"]}], target)) is reached
