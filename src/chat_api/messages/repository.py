"""The collection messages: the only module that touches it.

A message does not name the participants of its conversation, so every method first asks for the conversation as the
acting user: who is not in it gets the same 404 as for one that does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

from bson import ObjectId
from pydantic import InstanceOf
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from chat_api.conversations.repository import Conversations
from chat_api.identifiers import ObjectIdText
from chat_api.messages.schemas import Message, MessagePage
from chat_api.paging import Cursor, Limit
from chat_api.problems import Problem
from chat_api.stores.mongodb import Document, MongoDB, now, scalars_only

SHOWN = dict.fromkeys(("conversation_id", "sender_id", "client_id", "content", "created_at", "read_by"), 1)
"""What a reader sees of a message; the rest of the document stays on the server."""


class Messages:
    def __init__(self, mongodb: MongoDB, conversations: Conversations) -> None:
        self._collection = mongodb.collection("messages")
        self._conversations = conversations

    @scalars_only
    async def send(
        self, acting_user: UUID, conversation_id: ObjectIdText, client_id: UUID, content: str
    ) -> tuple[Message, bool]:
        """Store a message once; returns it and whether it is new.

        `client_id` is the sender's own: sending it again returns what is stored, so that a client that heard no answer
        just repeats. Raises a 409 Problem if it was sent with other content, a 404 Problem for a foreign conversation.
        """
        await self._conversations.require(acting_user, conversation_id)
        moment = now()
        document: Document = {
            "_id": ObjectId(),
            "conversation_id": ObjectId(conversation_id),
            "sender_id": str(acting_user),
            "client_id": str(client_id),
            "content": content,
            "attachments": [],
            "created_at": moment,
            "updated_at": moment,
            "delivered_to": [],
            "read_by": [],
        }
        try:
            await self._collection.insert_one(document)
        except DuplicateKeyError:
            return await self._sent_before(document), False
        # If the process ends here, the list shows an older preview until the next message: no transaction for that.
        await self._conversations.record_message(acting_user, conversation_id, moment, content)
        return Message.model_validate(_values(document)), True

    @scalars_only
    async def page(
        self,
        acting_user: UUID,
        conversation_id: ObjectIdText,
        limit: Limit,
        *,
        before: InstanceOf[Cursor] | None,
        after: InstanceOf[Cursor] | None,
    ) -> MessagePage:
        """Return messages newest first: the latest, or those before or after a place. Raises a 404 Problem."""
        await self._conversations.require(acting_user, conversation_id)
        where: Document = {"conversation_id": ObjectId(conversation_id)}
        direction = DESCENDING
        if after:
            where, direction = where | after.newer("created_at"), ASCENDING
        elif before:
            where |= before.older("created_at")
        found = self._collection.find(where, SHOWN).sort([("created_at", direction), ("_id", direction)])
        documents = await found.limit(limit + 1).to_list()
        has_more, shown = len(documents) > limit, documents[:limit]
        if after:
            shown.reverse()
        older, newer = (_place(shown[-1]), _place(shown[0])) if shown else (None, after.text if after else None)
        # One validation of a whole page takes two thirds of what one of each message does.
        return MessagePage.model_validate(
            {
                "items": [_values(document) for document in shown],
                "older": older if has_more or after else None,
                "newer": newer,
            }
        )

    @scalars_only
    async def mark_read(
        self, acting_user: UUID, conversation_id: ObjectIdText, message_ids: Sequence[ObjectIdText]
    ) -> int:
        """Mark messages of others as read; returns how many were not before. Raises a 404 Problem.

        Ids of other conversations are passed over, as if there were no such message.
        """
        await self._conversations.require(acting_user, conversation_id)
        done = await self._collection.update_many(
            {
                "_id": {"$in": [ObjectId(message_id) for message_id in message_ids]},
                "conversation_id": ObjectId(conversation_id),
                "sender_id": {"$ne": str(acting_user)},
                "read_by.user_id": {"$ne": str(acting_user)},
            },
            {"$push": {"read_by": {"user_id": str(acting_user), "timestamp": now()}}},
        )
        return done.modified_count

    async def _sent_before(self, document: Document) -> Message:
        key = ("conversation_id", "sender_id", "client_id")
        stored = await self._collection.find_one({field: document[field] for field in key}, SHOWN)
        if stored is None or stored["content"] != document["content"]:
            raise Problem(HTTPStatus.CONFLICT, "This client_id was used for another message.")
        return Message.model_validate(_values(stored))


def _place(document: Document) -> str:
    return Cursor(document["created_at"], document["_id"]).text


def _values(document: Document) -> Document:
    return {
        "id": str(document["_id"]),
        "conversation_id": str(document["conversation_id"]),
        "sender_id": document["sender_id"],
        "client_id": document.get("client_id"),
        "content": document["content"],
        "created_at": document["created_at"],
        "read_by": document["read_by"],
    }
