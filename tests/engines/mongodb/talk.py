"""Four users of the repositories, as a state machine, and the administrator's view of what they do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from bson import ObjectId
from hypothesis import strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule

from chat_api.conversations.repository import Conversations
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import Channels, NotificationPreferences, Preferences
from chat_api.notifications.repository import Notifications
from chat_api.paging import parse
from chat_api.problems import Problem
from chat_api.stores.mongodb import MongoDB
from dbkeep.mongodb.connect import Client

Document = dict[str, Any]
FAR = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """The repositories as the API has them, and the administrator's view of what they do."""

    loop: asyncio.AbstractEventLoop
    store: MongoDB
    administrator: Client
    leak: str | None = None
    conversations: Conversations = field(init=False)
    messages: Messages = field(init=False)
    notifications: Notifications = field(init=False)
    preferences: NotificationPreferences = field(init=False)

    def __post_init__(self) -> None:
        store: Any = Leaking(self.store, self.leak) if self.leak else self.store
        self.conversations = Conversations(store)
        self.messages = Messages(store, self.conversations)
        self.notifications = Notifications(store)
        self.preferences = NotificationPreferences(store)

    def ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Return what a call returns, or None for the 404 that stands for "not yours"."""
        try:
            return self.loop.run_until_complete(call)
        except Problem as problem:
            if problem.status == 404:
                return None
            return problem

    def documents(self, users: list[UUID]) -> dict[tuple[str, str], Document]:
        """Everything that there is of these users' world, by collection and _id."""
        chat, names = self.administrator["chat"], [str(user) for user in users]
        own = list(chat["conversations"].find({"participants": {"$in": names}}))
        found = {("conversations", str(document["_id"])): document for document in own}
        ids = [document["_id"] for document in own]
        for document in chat["messages"].find({"conversation_id": {"$in": ids}}):
            found["messages", str(document["_id"])] = document
        for collection in ("notifications", "notification_preferences"):
            for document in chat[collection].find({"user_id": {"$in": names}}):
                found[collection, str(document["_id"])] = document
        return found


class Leaking:
    """A store whose queries forget one field: what a careless change would do. The machine has to notice."""

    def __init__(self, store: MongoDB, forgotten: str) -> None:
        self._store, self._forgotten = store, forgotten

    def collection(self, name: str) -> Any:
        return _LeakingCollection(self._store.collection(name), self._forgotten)


class _LeakingCollection:
    def __init__(self, collection: Any, forgotten: str) -> None:
        self._collection, self._forgotten = collection, forgotten

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if name.startswith("insert"):
            return method

        def call(query: Document, *arguments: Any, **options: Any) -> Any:
            return method({key: value for key, value in query.items() if key != self._forgotten}, *arguments, **options)

        return call


class Talk(RuleBasedStateMachine):
    """Four users call anything with anything, their own and others'; each answer is compared with who is in what."""

    world: World
    conversations: Any = Bundle("conversations")
    messages: Any = Bundle("messages")
    cursors: Any = Bundle("cursors")
    notifications: Any = Bundle("notifications")
    users = strategies.integers(0, 3)

    @initialize(target=notifications)
    def begin(self) -> Any:
        self.people = [uuid4() for _ in range(4)]
        self.participants: dict[str, set[UUID]] = {}
        self.contents: dict[str, list[str]] = {}
        self.counter = itertools.count()
        given = [self._notify(user) for user in self.people for _ in range(2)]
        self.seen = self.world.documents(self.people)
        return multiple(*given)

    def _notify(self, user: UUID) -> str:
        moment = datetime.now(UTC)
        document = {
            "_id": ObjectId(),
            "user_id": str(user),
            "type": "system",
            "content": {"title": f"For {user}"},
            "related_to": {"type": "system", "id": "welcome"},
            "is_read": False,
            "created_at": moment,
            "expires_at": FAR,
        }
        self.world.administrator["chat"]["notifications"].insert_one(document)
        return str(document["_id"])

    def act(self, user: UUID, call: Coroutine[Any, Any, Any]) -> Any:
        """Make a call as `user`; nothing that is not the user's may be another afterwards."""
        answer = self.world.ask(call)
        now = self.world.documents(self.people)
        for key in self.seen.keys() | now.keys():
            if self.seen.get(key) != now.get(key):
                assert self._is_of(user, key, now[key]), f"{key} was changed by {user}"
        self.seen = now
        return answer

    def _is_of(self, user: UUID, key: tuple[str, str], document: Document) -> bool:
        if key[0] == "conversations":
            return str(user) in document["participants"]
        if key[0] == "messages":
            (conversation,) = self.world.administrator["chat"]["conversations"].find(
                {"_id": document["conversation_id"]}
            )
            return str(user) in conversation["participants"]
        return bool(document["user_id"] == str(user))

    def is_in(self, user: UUID, conversation: str) -> bool:
        return user in self.participants.get(conversation, ())

    @rule(
        target=conversations,
        user=users,
        others=strategies.sets(users, min_size=1, max_size=3),
        private=strategies.booleans(),
    )
    def create(self, user: int, others: set[int], private: bool) -> Any:
        others = others - {user}
        if not others:
            return multiple()
        acting = self.people[user]
        those = [self.people[other] for other in sorted(others)][: 1 if private else 3]
        kind, name = ("private", None) if private else ("group", "us")
        conversation, is_new = self.act(acting, self.world.conversations.create(acting, kind, those, name))
        assert set(conversation.participants) == {acting, *those}
        assert is_new is (conversation.id not in self.participants)
        self.participants[conversation.id] = {acting, *those}
        self.contents.setdefault(conversation.id, [])
        return conversation.id

    @rule(user=users, conversation=conversations)
    def look(self, user: int, conversation: str) -> None:
        acting = self.people[user]
        found = self.act(acting, self.world.conversations.one(acting, conversation))
        assert (found is not None) is self.is_in(acting, conversation)

    @rule(target=cursors, user=users, limit=strategies.integers(1, 3), before=strategies.none() | cursors)
    def list_conversations(self, user: int, limit: int, before: str | None) -> Any:
        acting = self.people[user]
        page = self.act(acting, self.world.conversations.page(acting, limit, parse(before) if before else None))
        assert all(self.is_in(acting, item.id) for item in page.items)
        mine = sum(acting in those for those in self.participants.values())
        if before is None:
            assert len(page.items) == min(limit, mine)
        return page.next if page.next else multiple()

    @rule(target=messages, user=users, conversation=conversations)
    def send(self, user: int, conversation: str) -> Any:
        acting, content = self.people[user], f"message {next(self.counter)}"
        sent = self.act(acting, self.world.messages.send(acting, conversation, uuid4(), content))
        assert (sent is not None) is self.is_in(acting, conversation)
        if sent is None:
            return multiple()
        self.contents[conversation].append(content)
        message, is_new = sent
        assert (is_new, message.conversation_id, message.sender_id) == (True, conversation, acting)
        return message

    @rule(user=users, conversation=conversations, message=messages, same=strategies.booleans())
    def send_again(self, user: int, conversation: str, message: Any, same: bool) -> None:
        """The id that another gave to a message elsewhere neither shows that message nor stands in the way."""
        acting, content = self.people[user], message.content if same else f"message {next(self.counter)}"
        sent = self.act(acting, self.world.messages.send(acting, conversation, message.client_id, content))
        own = (message.conversation_id, message.sender_id) == (conversation, acting)
        if not self.is_in(acting, conversation):
            assert sent is None
        elif isinstance(sent, Problem):
            # A conflict only with what the user sent into this very conversation.
            assert acting in self.participants[conversation]
            assert own is (not same) or not own
        else:
            assert (sent[0].conversation_id, sent[0].sender_id) == (conversation, acting)
            if sent[1]:
                self.contents[conversation].append(content)
            if own:
                assert sent[0].id == message.id

    @rule(
        target=cursors,
        user=users,
        conversation=conversations,
        limit=strategies.integers(1, 4),
        place=strategies.none() | cursors,
        newer=strategies.booleans(),
    )
    def read(self, user: int, conversation: str, limit: int, place: str | None, newer: bool) -> Any:
        acting, cursor = self.people[user], parse(place) if place else None
        before, after = (None, cursor) if newer else (cursor, None)
        call = self.world.messages.page(acting, conversation, limit, before=before, after=after)
        page = self.act(acting, call)
        assert (page is not None) is self.is_in(acting, conversation)
        if page is None:
            return multiple()
        read = [item.content for item in page.items]
        assert {item.conversation_id for item in page.items} <= {conversation}
        assert set(read) <= set(self.contents[conversation])
        if cursor is None:
            assert sorted(read) == sorted(self.contents[conversation][-limit:])
        return multiple(*{place for place in (page.older, page.newer) if place})

    @rule(user=users, conversation=conversations, marked=strategies.lists(messages, min_size=1, max_size=4))
    def mark(self, user: int, conversation: str, marked: list[Any]) -> None:
        acting = self.people[user]
        ids = [message.id for message in marked]
        count = self.act(acting, self.world.messages.mark_read(acting, conversation, ids))
        assert (count is not None) is self.is_in(acting, conversation)
        if count is not None:
            others = {m.id for m in marked if (m.conversation_id, m.sender_id == acting) == (conversation, False)}
            assert count <= len(others)
            for message_id in others:
                read_by = self.seen["messages", message_id]["read_by"]
                assert str(acting) in {receipt["user_id"] for receipt in read_by}

    @rule(user=users, notification=notifications)
    def mark_notification(self, user: int, notification: str) -> None:
        acting = self.people[user]
        document = self.seen["notifications", notification]
        before = dict(document)
        self.act(acting, self.world.notifications.mark_read(acting, notification))
        after = self.seen["notifications", notification]
        assert after["is_read"] is (before["is_read"] or before["user_id"] == str(acting))

    @rule(user=users, limit=strategies.integers(1, 3), before=strategies.none() | consumes(cursors))
    def list_notifications(self, user: int, limit: int, before: str | None) -> None:
        acting = self.people[user]
        page = self.act(acting, self.world.notifications.page(acting, limit, parse(before) if before else None))
        assert {item.content["title"] for item in page.items} <= {f"For {acting}"}
        mine = [d for k, d in self.seen.items() if k[0] == "notifications" and d["user_id"] == str(acting)]
        assert self.act(acting, self.world.notifications.unread(acting)) == sum(not d["is_read"] for d in mine)
        if before is None:
            assert len(page.items) == min(limit, len(mine))

    @rule(user=users, email=strategies.booleans())
    def prefer(self, user: int, email: bool) -> None:
        acting = self.people[user]
        chosen = Preferences(channels=Channels(email=email))
        self.act(acting, self.world.preferences.put(acting, chosen))
        assert self.act(acting, self.world.preferences.own(acting)) == chosen
