"""No sequence of repository calls reads or changes what the acting user has no part in: tried on a real server."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test as run_machine
from pydantic import SecretStr, ValidationError

from chat_api.configuration import Address, Configuration, Credentials
from chat_api.conversations.repository import Conversations
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import NotificationPreferences, Preferences
from chat_api.notifications.repository import Notifications
from chat_api.paging import Cursor
from chat_api.stores.mongodb import MongoDB
from dbkeep.mongodb.connect import Client
from dbkeep.settings import MongoDBSettings

from .talk import Talk, World

COLLECTIONS = ("conversations", "messages", "notifications", "notification_preferences")


@pytest.fixture(scope="module")
def world(settings: MongoDBSettings, passwords: dict[str, str], administrator: Client) -> Iterator[World]:
    configuration = Configuration.model_construct(
        ca_file=settings.ca_file,
        mongodb_hosts=[Address(host=settings.host, port=settings.port)],
        mongodb_replica_set=settings.replica_set,
        mongodb_database=settings.database,
    )
    credentials = Credentials.model_construct(mongodb_chat_api=SecretStr(passwords["chat_api"]))
    loop = asyncio.new_event_loop()
    store = MongoDB(configuration, credentials)
    yield World(loop, store, administrator)
    loop.run_until_complete(store.close())
    loop.close()
    for name in COLLECTIONS:
        administrator["chat"][name].delete_many({})


def run(world: World, examples: int, **options: Any) -> None:
    machine = type("Talk", (Talk,), {"world": world})
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
    run_machine(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=checks,
            **options,
        ),
    )


def test_no_sequence_of_calls_reaches_what_is_not_the_users(world: World) -> None:
    run(world, 15)


@pytest.mark.long
def test_no_long_series_of_sequences_does_either(world: World) -> None:
    run(world, 400)


@pytest.mark.parametrize("forgotten", ["participants", "conversation_id", "user_id"])
def test_a_query_that_forgets_the_user_is_noticed(world: World, forgotten: str) -> None:
    leaking = World(world.loop, world.store, world.administrator, forgotten)
    with pytest.raises(AssertionError):
        run(leaking, 100, phases=[Phase.generate], derandomize=True, report_multiple_bugs=False)


OPERATORS: list[Any] = [{"$ne": None}, {"$gt": ""}, {"$where": "true"}, ["x"], re.compile(""), ObjectId(), b"x"]


def calls(world: World) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Every method of the repositories with good arguments."""
    me, other, some = uuid4(), uuid4(), str(ObjectId())
    place = Cursor(datetime.now(UTC), ObjectId())
    moment = datetime.now(UTC) - timedelta(days=1)
    return {
        "create": (world.conversations.create, {"acting_user": me, "kind": "group", "others": [other], "name": "us"}),
        "one": (world.conversations.one, {"acting_user": me, "conversation_id": some}),
        "require": (world.conversations.require, {"acting_user": me, "conversation_id": some}),
        "page": (world.conversations.page, {"acting_user": me, "limit": 5, "before": place}),
        "record_message": (
            world.conversations.record_message,
            {"acting_user": me, "conversation_id": some, "at": moment, "content": "x"},
        ),
        "send": (
            world.messages.send,
            {"acting_user": me, "conversation_id": some, "client_id": other, "content": "x"},
        ),
        "read": (
            world.messages.page,
            {"acting_user": me, "conversation_id": some, "limit": 5, "before": place, "after": None},
        ),
        "mark": (world.messages.mark_read, {"acting_user": me, "conversation_id": some, "message_ids": [some]}),
        "notifications": (world.notifications.page, {"acting_user": me, "limit": 5, "before": place}),
        "unread": (world.notifications.unread, {"acting_user": me}),
        "mark_notification": (world.notifications.mark_read, {"acting_user": me, "notification_id": some}),
        "preferences": (world.preferences.own, {"acting_user": me}),
        "prefer": (world.preferences.put, {"acting_user": me, "preferences": Preferences()}),
    }


def test_an_object_where_a_scalar_is_expected_is_refused_by_every_method(world: World) -> None:
    chat = world.administrator["chat"]
    before = [chat[name].count_documents({}) for name in COLLECTIONS]
    for method, good in calls(world).values():
        for name in good:
            for bad in OPERATORS:
                wrong = [bad] if isinstance(good[name], list) else bad
                with pytest.raises(ValidationError):
                    world.ask(method(**(good | {name: wrong})))
    assert [chat[name].count_documents({}) for name in COLLECTIONS] == before
    kinds = (Conversations, Messages, Notifications, NotificationPreferences)
    public = [n for kind in kinds for n, _ in inspect.getmembers(kind, inspect.isroutine) if not n.startswith("_")]
    assert len(calls(world)) == len(public)


@pytest.mark.parametrize("limit", [0, -1, 101, 10**9])
def test_no_page_is_without_a_bound(world: World, limit: int) -> None:
    with pytest.raises(ValidationError):
        world.ask(world.conversations.page(uuid4(), limit, None))
