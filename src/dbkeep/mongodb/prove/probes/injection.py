"""P41 and P42: can an object stand where the API expects a scalar, and so become an operator of a query?"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from bson import ObjectId, Regex
from pydantic import BaseModel, ValidationError

from chat_api.conversations import schemas as conversations
from chat_api.messages import schemas as messages
from chat_api.notifications import preferences
from chat_api.paging import Cursor
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.repositories import repositories
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import Finding, Note, require

SOURCES = ("OWASP Web Security Testing Guide 4.7.5.6", "docs/decisions/mongodb-is-reached-through-repositories.md")
OPERATORS: dict[str, Any] = {
    "$ne": {"$ne": None},
    "$gt": {"$gt": ""},
    "$exists": {"$exists": True},
    "$in": {"$in": ["x"]},
    "$regex": {"$regex": "."},
    "$where": {"$where": "return true"},
    "$expr": {"$expr": True},
    "$or": {"$or": [{}]},
    "a dotted name": {"a.b": 1},
    "an empty object": {},
    "a list": ["x"],
    "a list of operators": [{"$ne": 1}],
    "a compiled expression": re.compile("."),
    "a BSON expression": Regex("."),
    "bytes": b"x",
}
TEXTS = ("$where", "$ne", "{'$ne': 1}", '{"$gt": ""}', "a.b", "$$ROOT", "\x00", "'; return true; //")


def _good() -> dict[str, Any]:
    """What the parameters of the repositories take, by their names."""
    some = str(ObjectId())
    return {
        "acting_user": uuid4(), "kind": "group", "others": [uuid4()], "name": "us", "conversation_id": some,
        "limit": 5, "before": Cursor(datetime.now(UTC), ObjectId()), "after": None, "at": datetime.now(UTC),
        "content": "x", "client_id": uuid4(), "message_ids": [some], "notification_id": some,
        "preferences": preferences.Preferences(),
    }  # fmt: skip


@probe(
    "P41", "Every method of the repositories refuses an object where a scalar is expected", area="injection",
    sources=SOURCES, live=False,
)  # fmt: skip
def into_repositories(world: World) -> Iterator[Finding | Note]:
    good, tried = _good(), 0
    with repositories(world) as made:
        for name, method in made.methods().items():
            parameters = list(inspect.signature(method).parameters)
            unknown = [parameter for parameter in parameters if parameter not in good]
            require(not unknown, f"{name}: what {unknown} takes is not known to the probe")
            arguments = {parameter: good[parameter] for parameter in parameters}
            before = made.stored()
            for parameter in parameters:
                for title, value in _spelt(OPERATORS, good[parameter]):
                    wrong = [value] if isinstance(good[parameter], list) else value
                    answer = made.ask(method(**(arguments | {parameter: wrong})))
                    tried += 1
                    if not isinstance(answer, ValidationError):
                        yield Finding("chat_api", f"{name} {parameter}", f"takes {title}: {str(answer)[:80]}")
            if made.stored() != before:
                yield Finding("chat_api", name, "changes documents although it should have refused everything")
        for text in TEXTS:
            answer = made.ask(made.conversations.one(uuid4(), text))
            tried += 1
            if not isinstance(answer, ValidationError):
                yield Finding("chat_api", "Conversations.one conversation_id", f"takes {text!r}")
    yield Note(f"{tried} calls")


@probe(
    "P42", "Every request's body refuses an object where a scalar is expected", area="injection", sources=SOURCES,
    live=False,
)  # fmt: skip
def into_requests(_: World) -> Iterator[Finding | Note]:
    tried = 0
    models = _models()
    require(models, "there is no model of a request")
    for model, good in models.items():
        model.model_validate(good)
        for field in model.model_fields:
            for title, value in _spelt(OPERATORS, {}):
                for wrong in (value, [value]):
                    tried += 1
                    if _is_taken(model, good | {field: wrong}):
                        yield Finding("anybody", f"{model.__name__}.{field}", f"takes {title}")
        for name in ("$where", "$set", "_id", "a.b"):
            tried += 1
            if _is_taken(model, good | {name: 1}):
                yield Finding("anybody", model.__name__, f"takes a field {name}")
    yield Note(f"{tried} bodies of {len(models)} models")


def _spelt(values: dict[str, Any], good: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is no good value: an object may stand for an object, and JSON knows only some of the others."""
    for title, value in values.items():
        if isinstance(good, dict) and not isinstance(value, dict | list):
            continue
        if value or not isinstance(good, dict | BaseModel):
            yield title, value


def _is_taken(model: type[BaseModel], body: dict[str, Any]) -> bool:
    try:
        model.model_validate(body)
    except ValidationError:
        return False
    return True


def _models() -> dict[type[BaseModel], dict[str, Any]]:
    """Return the models of requests, which take no other field than theirs, each with a good body."""
    bodies: dict[str, dict[str, Any]] = {
        "NewConversation": {"type": "private", "participants": [str(uuid4())]},
        "NewMessage": {"content": "x"},
        "ReadMark": {"message_ids": [str(ObjectId())]},
        "Preferences": {},
        "Channels": {},
        "Types": {},
    }
    found = {
        value
        for module in (conversations, messages, preferences)
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, BaseModel) and value.model_config.get("extra") == "forbid"
    }
    names = {model.__name__ for model in found}
    require(names == bodies.keys(), f"the models of requests are {', '.join(sorted(names))}: others than the probe's")
    return {model: bodies[model.__name__] for model in sorted(found, key=lambda model: model.__name__)}
