"""POST and GET /conversations, GET /conversations/{conversation_id}."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from chat_api import paging
from chat_api.conversations.schemas import Conversation, ConversationPage, NewConversation
from chat_api.dependencies import CurrentUser, Provided
from chat_api.identifiers import ObjectIdText
from chat_api.limits import CREATE_BY_USER
from chat_api.problems import Problem, documented, not_found

router = APIRouter(prefix="/conversations", tags=["conversations"])

ConversationId = Annotated[ObjectIdText, Path()]


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses={HTTPStatus.OK: {"model": Conversation, "description": "The private conversation that there was"}}
    | documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS, body=True),
)
async def create_conversation(
    new: NewConversation, user: CurrentUser, services: Provided, response: Response
) -> Conversation:
    """Begin a conversation with users that the caller may know of; two users have one private conversation."""
    await services.limits.take(CREATE_BY_USER, str(user.user_id))
    if user.user_id in new.participants:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The participants are the others.")
    if not await services.profiles.all_visible(user.user_id, new.participants):
        raise not_found("user")
    conversation, is_new = await services.conversations.create(user.user_id, new.type, new.participants, new.name)
    if not is_new:
        response.status_code = HTTPStatus.OK
    return conversation


@router.get("", responses=documented(HTTPStatus.UNAUTHORIZED))
async def list_conversations(
    user: CurrentUser, services: Provided, limit: paging.Limit = 50, before: paging.CursorText | None = None
) -> ConversationPage:
    """The caller's conversations, the latest active first."""
    return await services.conversations.page(user.user_id, limit, paging.parse(before) if before else None)


@router.get("/{conversation_id}", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND))
async def read_conversation(conversation_id: ConversationId, user: CurrentUser, services: Provided) -> Conversation:
    return await services.conversations.one(user.user_id, conversation_id)
