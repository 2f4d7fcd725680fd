"""The collection notifications: the only module that touches it. Every query filters by the acting user."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from bson import ObjectId
from pydantic import BaseModel, InstanceOf
from pymongo import DESCENDING

from chat_api.identifiers import ObjectIdText
from chat_api.paging import Cursor, Limit
from chat_api.problems import not_found
from chat_api.stores.mongodb import Document, MongoDB, scalars_only

MOST_COUNTED = 100


class Notification(BaseModel):
    id: str
    type: str
    content: dict[str, Any]
    related_to: dict[str, str]
    is_read: bool
    created_at: datetime


class NotificationPage(BaseModel):
    """Newest first; `next` is the cursor of the following page, towards the past."""

    items: list[Notification]
    next: str | None


class Notifications:
    def __init__(self, mongodb: MongoDB) -> None:
        self._collection = mongodb.collection("notifications")

    @scalars_only
    async def page(self, acting_user: UUID, limit: Limit, before: InstanceOf[Cursor] | None) -> NotificationPage:
        older = before.older("created_at") if before else {}
        found = self._collection.find({"user_id": str(acting_user), **older})
        documents = await found.sort([("created_at", DESCENDING), ("_id", DESCENDING)]).limit(limit + 1).to_list()
        shown = documents[:limit]
        last = Cursor(shown[-1]["created_at"], shown[-1]["_id"]).text if len(documents) > limit else None
        return NotificationPage(items=[_notification(document) for document in shown], next=last)

    @scalars_only
    async def unread(self, acting_user: UUID) -> int:
        """Return how many are unread, counted up to MOST_COUNTED."""
        return await self._collection.count_documents(
            {"user_id": str(acting_user), "is_read": False}, limit=MOST_COUNTED
        )

    @scalars_only
    async def mark_read(self, acting_user: UUID, notification_id: ObjectIdText) -> None:
        """Mark one as read; raises a 404 Problem unless it is a notification of `acting_user`."""
        done = await self._collection.update_one(
            {"_id": ObjectId(notification_id), "user_id": str(acting_user)}, {"$set": {"is_read": True}}
        )
        if done.matched_count == 0:
            raise not_found("notification")


def _notification(document: Document) -> Notification:
    return Notification(
        id=str(document["_id"]),
        type=document["type"],
        content=document["content"],
        related_to=document["related_to"],
        is_read=document["is_read"],
        created_at=document["created_at"],
    )
