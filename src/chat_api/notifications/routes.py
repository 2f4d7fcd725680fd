"""/notifications: the list, how many are unread, marking one read, and the preferences."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from chat_api import paging
from chat_api.dependencies import CurrentUser, Provided
from chat_api.identifiers import ObjectIdText
from chat_api.notifications.preferences import Preferences
from chat_api.notifications.repository import NotificationPage
from chat_api.problems import documented

router = APIRouter(prefix="/notifications", tags=["notifications"])


class Unread(BaseModel):
    """Counted up to 100."""

    unread: int


@router.get("", responses=documented(HTTPStatus.UNAUTHORIZED))
async def list_notifications(
    user: CurrentUser, services: Provided, limit: paging.Limit = 50, before: paging.CursorText | None = None
) -> NotificationPage:
    return await services.notifications.page(user.user_id, limit, paging.parse(before) if before else None)


@router.get("/unread", responses=documented(HTTPStatus.UNAUTHORIZED))
async def count_unread(user: CurrentUser, services: Provided) -> Unread:
    return Unread(unread=await services.notifications.unread(user.user_id))


@router.get("/preferences", responses=documented(HTTPStatus.UNAUTHORIZED))
async def read_preferences(user: CurrentUser, services: Provided) -> Preferences:
    return await services.notification_preferences.own(user.user_id)


@router.put("/preferences", status_code=HTTPStatus.NO_CONTENT, responses=documented(HTTPStatus.UNAUTHORIZED, body=True))
async def put_preferences(preferences: Preferences, user: CurrentUser, services: Provided) -> None:
    await services.notification_preferences.put(user.user_id, preferences)


@router.post(
    "/{notification_id}/read",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND),
)
async def read_notification(
    notification_id: Annotated[ObjectIdText, Path()], user: CurrentUser, services: Provided
) -> None:
    await services.notifications.mark_read(user.user_id, notification_id)
