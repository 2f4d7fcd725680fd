"""What the profile routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from chat_api.text import Text


class OwnProfile(BaseModel):
    """What a user sees of itself. The email address is not here: app_api cannot read it."""

    user_id: UUID
    username: str
    display_name: str | None
    bio: str | None
    avatar_url: str | None
    is_verified: bool
    created_at: datetime
    updated_at: datetime


class ProfileChange(BaseModel):
    """What is left out stays; null empties it."""

    model_config = ConfigDict(extra="forbid")

    display_name: Annotated[Text, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)] | None = None
    bio: Annotated[Text, StringConstraints(max_length=2000)] | None = None
    avatar_url: Annotated[Text, StringConstraints(max_length=255, pattern=r"^https://[^\s]+$")] | None = None
