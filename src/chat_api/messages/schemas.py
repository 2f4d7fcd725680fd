"""What the message routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from chat_api.identifiers import ObjectIdText
from chat_api.paging import MOST
from chat_api.text import Text


class NewMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    content: Annotated[Text, StringConstraints(min_length=1, max_length=4000)]


class Receipt(BaseModel):
    user_id: UUID
    timestamp: datetime


class Message(BaseModel):
    id: str
    conversation_id: str
    sender_id: UUID
    client_id: UUID | None
    content: str
    created_at: datetime
    read_by: list[Receipt]


class MessagePage(BaseModel):
    """Newest first. `older` and `newer` are cursors of what follows in either direction of this page."""

    items: list[Message]
    older: str | None
    newer: str | None


class ReadMark(BaseModel):
    model_config = ConfigDict(extra="forbid")

    message_ids: Annotated[list[ObjectIdText], Field(min_length=1, max_length=MOST)]


class Marked(BaseModel):
    """How many messages were not marked before; sending the same mark again answers 0."""

    marked: int
