"""PUT /presence, GET /conversations/{conversation_id}/presence."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from chat_api.conversations.routes import ConversationId
from chat_api.dependencies import CurrentUser, Provided
from chat_api.problems import documented

router = APIRouter(tags=["presence"])


class Online(BaseModel):
    online: list[UUID]


@router.put("/presence", status_code=HTTPStatus.NO_CONTENT, responses=documented(HTTPStatus.UNAUTHORIZED))
async def announce_presence(user: CurrentUser, services: Provided) -> None:
    """Be online for the next 45 seconds."""
    await services.presence.heard_of(user)


@router.get(
    "/conversations/{conversation_id}/presence",
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND),
)
async def read_presence(conversation_id: ConversationId, user: CurrentUser, services: Provided) -> Online:
    """Which participants are online; only who is one of them may ask."""
    conversation = await services.conversations.one(user.user_id, conversation_id)
    return Online(online=await services.presence.online(conversation.participants))
