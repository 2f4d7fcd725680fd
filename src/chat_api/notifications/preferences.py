"""The collection notification_preferences: the only module that touches it. Every query filters by the acting user."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from chat_api.stores.mongodb import Document, MongoDB, now, scalars_only


class Channels(BaseModel):
    """By which ways a user is told."""

    model_config = ConfigDict(extra="forbid", strict=True)

    in_app: bool = True
    email: bool = False
    push: bool = False


class Types(BaseModel):
    """What a user is told about."""

    model_config = ConfigDict(extra="forbid", strict=True)

    message: bool = True
    friend_request: bool = True
    system: bool = True


class Preferences(BaseModel):
    """The defaults are what holds for a user who never chose."""

    model_config = ConfigDict(extra="forbid")

    channels: Channels = Channels()
    types: Types = Types()


class NotificationPreferences:
    def __init__(self, mongodb: MongoDB) -> None:
        self._collection = mongodb.collection("notification_preferences")

    @scalars_only
    async def own(self, acting_user: UUID) -> Preferences:
        document = await self._collection.find_one({"user_id": str(acting_user)}, {"channels": 1, "types": 1, "_id": 0})
        return Preferences.model_validate(document or {})

    @scalars_only
    async def put(self, acting_user: UUID, preferences: Preferences) -> None:
        values: Document = {**preferences.model_dump(), "updated_at": now()}
        await self._collection.update_one({"user_id": str(acting_user)}, {"$set": values}, upsert=True)
