"""P40: does the repository layer, the only boundary between two users, hold against each of its methods?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from chat_api.notifications.preferences import Channels, Preferences
from chat_api.paging import parse
from chat_api.problems import Problem
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.repositories import Repositories, Stored, repositories
from dbkeep.mongodb.prove.values import FIRST_DAY
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import Finding, Note, require

SOURCES = ("docs/decisions/mongodb-is-reached-through-repositories.md", "OWASP API Security 2023, API1")
SECRET = "what anna and ben say"  # noqa: S105 - a message, no password
Attack = Callable[[], Any]


class _Scene:
    """Anna and Ben have a conversation; Carl, who attacks, has one with Dora."""

    def __init__(self, world: World, made: Repositories) -> None:
        self.made = made
        self.anna, self.ben, self.carl, self.dora = (uuid4() for _ in range(4))
        self.theirs = self._conversation(self.anna, self.ben)
        self.own = self._conversation(self.carl, self.dora)
        self.client_id = uuid4()
        self.sent = [
            self._send(self.anna, self.client_id),
            self._send(self.ben, uuid4()),
            self._send(self.ben, uuid4()),
        ]
        page = made.ask(made.messages.page(self.anna, self.theirs, 1, before=None, after=None))
        self.place = parse(page.older)
        made.ask(made.preferences.put(self.anna, Preferences(channels=Channels(push=True))))
        self.notification = self._notify(world)

    def _conversation(self, one: UUID, other: UUID) -> str:
        found = self.made.ask(self.made.conversations.create(one, "private", [other], None))
        require(not isinstance(found, Exception), f"nobody can make a conversation: {found}")
        return str(found[0].id)

    def _send(self, user: UUID, client_id: UUID) -> str:
        sent = self.made.ask(self.made.messages.send(user, self.theirs, client_id, SECRET))
        require(not isinstance(sent, Exception), f"nobody can send a message: {sent}")
        return str(sent[0].id)

    def _notify(self, world: World) -> str:
        """The API writes none itself."""
        (collection,) = [one for one in world.declared.collections if one.name == "notifications"]
        document: Document = {
            "user_id": str(self.anna),
            "type": "system",
            "content": {"title": SECRET},
            "related_to": {"type": "system", "id": "welcome"},
            "is_read": False,
            "created_at": datetime.now(UTC),
            "expires_at": FIRST_DAY,
        }
        return str(world.administrator()[world.database][collection.name].insert_one(document).inserted_id)

    def attacks(self) -> dict[str, Attack]:
        """Everything that Carl tries with what is not his, by the method and how."""
        made, carl, theirs, own = self.made, self.carl, self.theirs, self.own
        now = datetime.now(UTC)
        return {
            "Conversations.one": lambda: made.conversations.one(carl, theirs),
            "Conversations.require": self._enter,
            "Conversations.page": lambda: made.conversations.page(carl, 100, None),
            "Conversations.page after their place": lambda: made.conversations.page(carl, 100, self.place),
            "Conversations.record_message": lambda: made.conversations.record_message(carl, theirs, now, "from carl"),
            "Conversations.create with Anna": lambda: made.conversations.create(carl, "private", [self.anna], None),
            "Messages.page": lambda: made.messages.page(carl, theirs, 100, before=None, after=None),
            "Messages.page before": lambda: made.messages.page(carl, theirs, 100, before=self.place, after=None),
            "Messages.page after": lambda: made.messages.page(carl, theirs, 100, before=None, after=self.place),
            "Messages.page of his own": lambda: made.messages.page(carl, own, 100, before=None, after=None),
            "Messages.page of his own, from their place": lambda: made.messages.page(
                carl, own, 100, before=self.place, after=None
            ),
            "Messages.send": lambda: made.messages.send(carl, theirs, uuid4(), "from carl"),
            "Messages.send their client_id": lambda: made.messages.send(carl, own, self.client_id, "from carl"),
            "Messages.mark_read": lambda: made.messages.mark_read(carl, theirs, self.sent),
            "Messages.mark_read in his own": lambda: made.messages.mark_read(carl, own, self.sent),
            "Notifications.page": lambda: made.notifications.page(carl, 100, None),
            "Notifications.unread": lambda: made.notifications.unread(carl),
            "Notifications.mark_read": lambda: made.notifications.mark_read(carl, self.notification),
            "NotificationPreferences.own": lambda: made.preferences.own(carl),
            "NotificationPreferences.put": lambda: made.preferences.put(carl, Preferences()),
        }

    async def _enter(self) -> str:
        await self.made.conversations.require(self.carl, self.theirs)
        return self.theirs

    def is_theirs(self, document: Document) -> bool:
        """Whether a stored document is nothing of Carl's."""
        parts = {str(document.get(name)) for name in ("user_id", "sender_id", "conversation_id")}
        return not parts & {str(self.carl), self.own} and str(self.carl) not in document.get("participants", ())


@probe(
    "P40", "No method of the repositories shows or changes what is another user's", area="isolation", sources=SOURCES,
    live=False,
)  # fmt: skip
def other_users(world: World) -> Iterator[Finding | Note]:
    with repositories(world) as made:
        scene = _Scene(world, made)
        attacks = scene.attacks()
        unattacked = made.methods().keys() - {title.split(" ", 1)[0] for title in attacks}
        require(not unattacked, f"nothing attacks {', '.join(sorted(unattacked))}")
        seen = made.ask(made.messages.page(scene.anna, scene.theirs, 100, before=None, after=None))
        require(len(seen.items) == len(scene.sent), "anna does not see her own messages")
        before = _theirs(scene, made.stored())
        for title, attack in attacks.items():
            answer = made.ask(attack())
            if not isinstance(answer, Problem) and _tells(scene, answer):
                yield Finding("chat_api", title, "shows a user what is not of this user")
            after = _theirs(scene, made.stored())
            if after != before:
                changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
                yield Finding(
                    "chat_api", title, f"changes {', '.join(sorted({name for name, _ in changed}))} of others"
                )
                before = after
        yield Note(f"{len(attacks)} attacks on {len(made.methods())} methods")


def _theirs(scene: _Scene, stored: Stored) -> Stored:
    return {key: document for key, document in stored.items() if scene.is_theirs(document)}


def _tells(scene: _Scene, answer: Any) -> bool:
    """Whether an answer holds anything of Anna's and Ben's: what they said, their ids, a count, a preference."""
    text = str(answer)
    names = (SECRET, scene.theirs, str(scene.ben), scene.notification, *scene.sent)
    return any(name in text for name in names) or "push=True" in text or (isinstance(answer, int) and answer > 0)
