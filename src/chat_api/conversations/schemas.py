"""What the conversation routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from chat_api.text import Text

MOST_PARTICIPANTS = 100


class NewConversation(BaseModel):
    """`participants` are the others; who asks is always one."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["private", "group"]
    participants: Annotated[
        list[UUID], Field(min_length=1, max_length=MOST_PARTICIPANTS - 1, json_schema_extra={"uniqueItems": True})
    ]
    name: Annotated[Text, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)] | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if len(set(self.participants)) != len(self.participants):
            raise ValueError("a participant is named twice")
        if self.type == "private" and (len(self.participants) != 1 or self.name is not None):
            raise ValueError("a private conversation has one other participant and no name")
        return self


class Conversation(BaseModel):
    id: str
    type: Literal["private", "group"]
    participants: list[UUID]
    name: str | None
    created_by: UUID
    created_at: datetime
    last_message_at: datetime | None
    last_message_preview: str | None


class ConversationPage(BaseModel):
    """`next` is the cursor of the following page, towards the past."""

    items: list[Conversation]
    next: str | None
