"""GET /notifications, POST /notifications/{notification_id}/read."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path

from chat_api import paging
from chat_api.dependencies import CurrentUser, Provided
from chat_api.identifiers import ObjectIdText
from chat_api.notifications.repository import NotificationPage
from chat_api.problems import documented

router = APIRouter(prefix="/notifications", tags=["notifications"])


@router.get("", responses=documented(HTTPStatus.UNAUTHORIZED))
async def list_notifications(
    user: CurrentUser, services: Provided, limit: paging.Limit = 50, before: paging.CursorText | None = None
) -> NotificationPage:
    return await services.notifications.page(user.user_id, limit, paging.parse(before) if before else None)


@router.post(
    "/{notification_id}/read",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND),
)
async def read_notification(
    notification_id: Annotated[ObjectIdText, Path()], user: CurrentUser, services: Provided
) -> None:
    await services.notifications.mark_read(user.user_id, notification_id)
