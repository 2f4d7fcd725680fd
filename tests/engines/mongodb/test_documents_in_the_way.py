"""Changes that depend on the documents: counted on the server, refused or made without a gap, and converging."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId

from dbkeep import mongodb as engine
from dbkeep.mongodb.connect import Client
from dbkeep.mongodb.models import Declared, Rule
from dbkeep.plan import ApplyError, Change, Risk
from dbkeep.settings import MongoDBSettings

from .test_documents import GOOD, NOW

Document = dict[str, Any]


@pytest.fixture
def server(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], administrator: Client
) -> Iterator[Server]:
    yield Server(settings, declared, passwords, administrator)
    for collection in declared.collections:
        administrator["chat"][collection.name].delete_many({})
    for _ in range(2):
        engine.apply(settings, declared, passwords, allow_destructive=True)
    assert list(engine.plan(settings, declared, passwords)) == []


class Server:
    def __init__(
        self, settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], client: Client
    ) -> None:
        self.given = (settings, declared, passwords)
        self.chat = client["chat"]

    def plan(self, **options: Any) -> list[Change]:
        return list(engine.plan(*self.given, **options))

    def apply(self, **options: Any) -> tuple[Change, ...]:
        return engine.apply(*self.given, **options)

    def put(self, collection: str, **fields: Any) -> ObjectId:
        """Store a document that the validator may not like, and return its _id."""
        document = copy.deepcopy(GOOD[collection]) | {"_id": ObjectId()} | fields
        self.chat[collection].with_options().insert_one(document, bypass_document_validation=True)
        return ObjectId(document["_id"])


def test_a_validator_that_documents_break_is_set_as_a_warning_on_request(server: Server) -> None:
    server.chat.command({"collMod": "messages", "validator": {}})
    bad = server.put("messages", content=7)
    (change,) = server.plan(warn=True)
    assert change.refused is None
    assert f"as a warning: 1 document breaks the declared validator, for example _id {bad}" in change.summary
    server.apply(warn=True)
    assert server.plan(warn=True) == []
    (held,) = server.chat.list_collections(filter={"name": "messages"})
    assert held["options"]["validator"] == server.given[1].collections[1].validator
    assert held["options"]["validationAction"] == "warn"

    # It stays drift: without the request the plan says what is still to be repaired.
    (change,) = server.plan()
    assert str(change.refused).startswith("1 document breaks the declared validator")
    server.chat["messages"].delete_one({"_id": bad})
    assert [change.refused for change in server.apply()] == [None]
    assert server.plan() == []


def test_a_validator_that_is_declared_as_a_warning_is_no_search(server: Server) -> None:
    settings, declared, passwords = server.given
    collections = [
        collection.model_copy(update={"validation_action": "warn"}) if collection.name == "messages" else collection
        for collection in declared.collections
    ]
    warned = declared.model_copy(update={"collections": tuple(collections)})
    server.put("messages", content=7)
    (change,) = engine.plan(settings, warned, passwords)
    assert (change.kind, change.refused) == ("validator", None)
    engine.apply(settings, warned, passwords)
    assert list(engine.plan(settings, warned, passwords)) == []


def test_documents_that_break_the_validator_that_holds_are_a_finding_when_asked_for(server: Server) -> None:
    bad = {server.put("notifications", expires_at=NOW, title=n) for n in range(4)}
    assert server.plan() == []
    (change,) = server.plan(documents=True)
    assert (change.kind, change.target) == ("documents", "chat.notifications")
    assert change.summary.startswith("4 documents break the validator that holds, for example _id ")
    named = change.summary.partition("_id ")[2].split(", ")
    assert len(named) == 3
    assert set(named) < {str(_id) for _id in bad}


def test_a_search_that_does_not_end_in_its_time_refuses(server: Server) -> None:
    server.chat.command({"collMod": "messages", "validator": {}})
    template = {name: value for name, value in GOOD["messages"].items() if name != "client_id"}
    server.chat["messages"].insert_many([{**template, "_id": ObjectId()} for _ in range(20_000)])
    (change,) = server.plan(search_seconds=0.001)
    assert change.refused == (
        "whether documents break the declared validator is not known: 0.001 s were not enough "
        "(--search-seconds gives it more time); "
        "repair them first by a migration, or apply with --warn"
    )
    with pytest.raises(ApplyError, match=r"is not known: 0\.001 s"):
        server.apply(search_seconds=0.001)
    assert [change.refused for change in server.plan()] == [None]


def test_a_unique_index_is_refused_while_documents_repeat_a_key_and_then_set_in_place(server: Server) -> None:
    server.chat["notification_preferences"].drop_index("user_id")
    server.chat["notification_preferences"].create_index([("user_id", 1)], name="user_id")
    ids = [server.put("notification_preferences") for _ in range(2)]
    (change,) = server.plan()
    found = f"2 documents repeat the key of another, for example _id {ids[0]}, {ids[1]}"
    assert change.refused == f"it is unique and {found}; repair them first"
    server.chat["notification_preferences"].delete_one({"_id": ids[0]})
    (change,) = server.apply()
    assert (change.summary, change.risk) == ("set prepareUnique, unique", Risk.SAFE)


def test_a_rule_that_fails_on_a_document_is_refused_and_not_the_end_of_the_plan(server: Server) -> None:
    settings, declared, passwords = server.given
    rule = Rule(why="it has words", expr={"$gt": [{"$size": {"$split": ["$content", " "]}}, 0]})
    collections = [
        collection.model_copy(update={"rules": (rule,)}) if collection.name == "messages" else collection
        for collection in declared.collections
    ]
    server.put("messages", content=7)
    (change,) = engine.plan(settings, declared.model_copy(update={"collections": tuple(collections)}), passwords)
    assert "is not known: PlanExecutor error" in str(change.refused)
    assert "$split requires an expression that evaluates to a string" in str(change.refused)
    assert "\n" not in str(change.refused)


def test_a_unique_index_that_left_documents_out_is_refused_while_they_repeat_a_key(server: Server) -> None:
    preferences = server.chat["notification_preferences"]
    preferences.drop_index("user_id")
    only = {"channels.email": True}
    preferences.create_index([("user_id", 1)], name="user_id", unique=True, partialFilterExpression=only)
    for _ in range(2):
        server.put("notification_preferences")
    (change,) = server.plan()
    assert str(change.refused).startswith("it is unique and 2 documents repeat the key of another")


CHANGED: dict[str, list[Document]] = {
    "another direction": [{"name": "updated_at", "key": {"updated_at": -1}}],
    "another filter": [{"name": "updated_at", "key": {"updated_at": 1}, "partialFilterExpression": {"type": "group"}}],
    "documents that expire": [{"name": "updated_at", "key": {"updated_at": 1}, "expireAfterSeconds": 2**31 - 1}],
    "another name": [{"name": "updated_at_1", "key": {"updated_at": 1}}],
}


@pytest.mark.parametrize("indexes", CHANGED.values(), ids=CHANGED)
def test_queries_keep_an_index_while_it_is_built_again_and_any_interruption_converges(
    server: Server, indexes: list[Document]
) -> None:
    for number in range(50):
        server.put("conversations", updated_at=NOW.replace(second=number))
    commands = 4
    for interrupted_after in range(commands + 1):
        server.chat.command({"dropIndexes": "conversations", "index": ["updated_at"]})
        server.chat.command({"createIndexes": "conversations", "indexes": indexes})
        (change,) = server.plan()
        assert (change.risk, len(change.operation)) == (Risk.LOCKING, commands)
        for command in change.operation[:interrupted_after]:
            server.chat.command(command.document)
            assert uses_an_index(server, {"updated_at": {"$lt": NOW.replace(second=20)}})
        server.apply()
        assert server.plan() == []
        assert set(server.chat["conversations"].index_information()) == {
            "_id_",
            "participants_last_message_at_id",
            "updated_at",
        }


def uses_an_index(server: Server, query: Document) -> bool:
    explained = server.chat.command(
        {"explain": {"find": "conversations", "filter": query}, "verbosity": "queryPlanner"}
    )
    return "IXSCAN" in str(explained["queryPlanner"]["winningPlan"])


def test_an_undeclared_index_is_hidden_then_dropped(server: Server) -> None:
    server.chat["messages"].create_index([("content", 1)], name="by_content")
    assert server.apply() == ()
    (hidden,) = server.apply(allow_destructive=True)
    assert hidden.summary == "hide, it is not declared; the next apply drops it"
    assert server.chat["messages"].index_information()["by_content"]["hidden"] is True
    (drop,) = server.plan()
    assert drop.summary.startswith("drop, it is not declared, hidden since 20")
    server.apply(allow_destructive=True)
    assert "by_content" not in server.chat["messages"].index_information()
