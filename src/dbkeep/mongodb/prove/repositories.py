"""The API's repositories on a copy, called as the API calls them, and everything that is stored beneath."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from bson.errors import InvalidId
from pydantic import ValidationError
from pymongo.errors import WriteError

from chat_api.conversations.repository import Conversations
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import NotificationPreferences
from chat_api.notifications.repository import Notifications
from chat_api.problems import Problem
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import require

KINDS = (Conversations, Messages, Notifications, NotificationPreferences)
Stored = dict[tuple[str, str], Document]


class Repositories:
    """`store` is the API's own."""

    def __init__(self, world: World, store: Any, loop: asyncio.Runner) -> None:
        self._world, self._loop = world, loop
        self.conversations = Conversations(store)
        self.messages = Messages(store, self.conversations)
        self.notifications = Notifications(store)
        self.preferences = NotificationPreferences(store)

    def ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Return what a call returns, or what it is refused with."""
        try:
            return self._loop.run(call)
        except (Problem, ValidationError, WriteError, InvalidId, TypeError) as refused:
            return refused

    def stored(self) -> Stored:
        """Return every document of the database by collection and _id."""
        database = self._world.administrator()[self._world.database]
        return {
            (collection.name, str(document["_id"])): document
            for collection in self._world.declared.collections
            for document in database[collection.name].find()
        }

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return every public method there is, by the name of its object and its own."""
        objects = (self.conversations, self.messages, self.notifications, self.preferences)
        return {
            f"{type(one).__name__}.{name}": method
            for one in objects
            for name, method in inspect.getmembers(one, inspect.isroutine)
            if not name.startswith("_")
        }


@contextmanager
def repositories(world: World) -> Iterator[Repositories]:
    """Yield the repositories of a copy, which is emptied at the end."""
    require(world.store, "only a copy has the API's store")
    with asyncio.Runner() as loop:
        store: Any = world.store() if world.store else None
        try:
            yield Repositories(world, store, loop)
        finally:
            loop.run(store.close())
            database = world.administrator()[world.database]
            for collection in world.declared.collections:
                database[collection.name].delete_many({})
