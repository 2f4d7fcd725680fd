"""GET and PATCH /profile, GET /users/{username}."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel

from chat_api.auth.schemas import Username
from chat_api.dependencies import CurrentUser, Provided
from chat_api.problems import documented
from chat_api.users.schemas import OwnProfile, ProfileChange

router = APIRouter(tags=["users"])


class FoundUser(BaseModel):
    id: UUID
    username: str


@router.get("/profile", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND))
async def read_profile(user: CurrentUser, services: Provided) -> OwnProfile:
    return await services.profiles.own(user.user_id)


@router.patch("/profile", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, body=True))
async def change_profile(change: ProfileChange, user: CurrentUser, services: Provided) -> OwnProfile:
    return await services.profiles.change(user.user_id, change.model_dump(exclude_unset=True))


@router.get("/users/{username}", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND))
async def find_user(username: Annotated[Username, Path()], user: CurrentUser, services: Provided) -> FoundUser:
    """Find a user by name, to begin a conversation with."""
    return FoundUser(id=await services.profiles.id_of(user.user_id, username), username=username)
