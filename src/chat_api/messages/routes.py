"""PUT and GET messages of a conversation, POST read marks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response

from chat_api import paging
from chat_api.conversations.routes import ConversationId
from chat_api.dependencies import CurrentUser, Provided, Services
from chat_api.limits import SEND_BY_USER
from chat_api.messages.schemas import Marked, Message, MessagePage, NewMessage, ReadMark
from chat_api.problems import Problem, documented, not_found

router = APIRouter(prefix="/conversations/{conversation_id}", tags=["messages"])


@router.put(
    "/messages/{client_id}",
    status_code=HTTPStatus.CREATED,
    responses={HTTPStatus.OK: {"model": Message, "description": "The message was stored by an earlier request"}}
    | documented(
        HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, body=True
    ),
)
async def send_message(
    *,
    conversation_id: ConversationId,
    client_id: Annotated[UUID, Path()],
    new: NewMessage,
    user: CurrentUser,
    services: Provided,
    response: Response,
) -> Message:
    """Send a message under an id of the client's choice; sending it again changes nothing."""
    await services.limits.take(SEND_BY_USER, str(user.user_id))
    await _require_reachable(services, user.user_id, conversation_id)
    message, is_new = await services.messages.send(user.user_id, conversation_id, client_id, new.content)
    if is_new:
        await services.wake_ups.message_sent(conversation_id)
    else:
        response.status_code = HTTPStatus.OK
    return message


@router.get("/messages", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND))
async def list_messages(
    *,
    conversation_id: ConversationId,
    user: CurrentUser,
    services: Provided,
    limit: paging.Limit = 50,
    before: paging.CursorText | None = None,
    after: paging.CursorText | None = None,
) -> MessagePage:
    """The latest messages, or those before or after a cursor, newest first."""
    if before and after:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Ask for what is before or after a place, not both.")
    return await services.messages.page(
        user.user_id,
        conversation_id,
        limit,
        before=paging.parse(before) if before else None,
        after=paging.parse(after) if after else None,
    )


@router.post("/read", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, body=True))
async def mark_read(conversation_id: ConversationId, mark: ReadMark, user: CurrentUser, services: Provided) -> Marked:
    """Mark messages of others as read by the caller."""
    return Marked(marked=await services.messages.mark_read(user.user_id, conversation_id, mark.message_ids))


async def _require_reachable(services: Services, acting_user: UUID, conversation_id: str) -> None:
    """Raise a 404 Problem if the other one of a private conversation blocks the sender or is not active any more."""
    conversation = await services.conversations.one(acting_user, conversation_id)
    others = set(conversation.participants) - {acting_user}
    if conversation.type == "private" and not await services.profiles.all_visible(acting_user, others):
        raise not_found("user")
