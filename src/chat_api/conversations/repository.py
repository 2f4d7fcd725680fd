"""The collection conversations: the only module that touches it. Every query filters by the acting user."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from bson import ObjectId
from pydantic import InstanceOf
from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError

from chat_api.conversations.schemas import Conversation, ConversationPage
from chat_api.identifiers import ObjectIdText
from chat_api.paging import Cursor, Limit
from chat_api.problems import not_found
from chat_api.stores.mongodb import Document, MongoDB, now, scalars_only

PREVIEW_CHARACTERS = 100


class Conversations:
    def __init__(self, mongodb: MongoDB) -> None:
        self._collection = mongodb.collection("conversations")

    @scalars_only
    async def create(
        self, acting_user: UUID, kind: str, others: Sequence[UUID], name: str | None
    ) -> tuple[Conversation, bool]:
        """Make a conversation of `acting_user` and `others`; returns it and whether it is new.

        Two users have one private conversation: its id follows from theirs, so that a second one cannot be made, also
        not by both at once.
        """
        moment = now()
        participants = [str(acting_user), *map(str, others)]
        document: Document = {
            "_id": private_id(participants) if kind == "private" else ObjectId(),
            "type": kind,
            "participants": participants,
            "created_by": str(acting_user),
            "created_at": moment,
            "updated_at": moment,
            # The list is ordered by this, so it begins as the time of creation.
            "last_message_at": moment,
            "is_active": True,
        }
        if name is not None:
            document["name"] = name
        try:
            await self._collection.insert_one(document)
        except DuplicateKeyError:
            return await self.one(acting_user, str(document["_id"])), False
        return _conversation(document), True

    @scalars_only
    async def one(self, acting_user: UUID, conversation_id: ObjectIdText) -> Conversation:
        """Return the conversation; raises a 404 Problem unless `acting_user` takes part in it."""
        document = await self._collection.find_one(_own(acting_user, conversation_id))
        if document is None:
            raise not_found("conversation")
        return _conversation(document)

    @scalars_only
    async def require(self, acting_user: UUID, conversation_id: ObjectIdText) -> None:
        """Raise a 404 Problem unless `acting_user` takes part in the conversation."""
        if await self._collection.find_one(_own(acting_user, conversation_id), {"_id": 1}) is None:
            raise not_found("conversation")

    @scalars_only
    async def page(self, acting_user: UUID, limit: Limit, before: InstanceOf[Cursor] | None) -> ConversationPage:
        """Return the conversations of `acting_user`, the latest active first."""
        older = before.older("last_message_at") if before else {}
        found = self._collection.find({"participants": str(acting_user), "is_active": True, **older})
        documents = await found.sort([("last_message_at", DESCENDING), ("_id", DESCENDING)]).limit(limit + 1).to_list()
        shown = documents[:limit]
        last = Cursor(shown[-1]["last_message_at"], shown[-1]["_id"]).text if len(documents) > limit else None
        return ConversationPage(items=[_conversation(document) for document in shown], next=last)

    @scalars_only
    async def record_message(
        self, acting_user: UUID, conversation_id: ObjectIdText, at: datetime, content: str
    ) -> None:
        """Make a message the latest of its conversation, unless a later one is already."""
        await self._collection.update_one(
            {**_own(acting_user, conversation_id), "last_message_at": {"$lte": at}},
            {"$set": {"last_message_at": at, "updated_at": at, "last_message_preview": content[:PREVIEW_CHARACTERS]}},
        )


def _own(acting_user: UUID, conversation_id: ObjectIdText) -> Document:
    return {"_id": ObjectId(conversation_id), "participants": str(acting_user), "is_active": True}


def private_id(participants: Sequence[str]) -> ObjectId:
    return ObjectId(hashlib.sha256("\x1f".join(sorted(participants)).encode("ascii")).digest()[:12])


def _conversation(document: Document) -> Conversation:
    preview = document.get("last_message_preview")
    return Conversation(
        id=str(document["_id"]),
        type=document["type"],
        participants=document["participants"],
        name=document.get("name"),
        created_by=document["created_by"],
        created_at=document["created_at"],
        last_message_at=document["last_message_at"] if preview is not None else None,
        last_message_preview=preview,
    )
