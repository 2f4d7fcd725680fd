"""GET /relationships; requests, answers, blocks; DELETE /relationships/{user_id}."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from chat_api.dependencies import CurrentUser, Provided
from chat_api.limits import CREATE_BY_USER
from chat_api.problems import documented
from chat_api.relationships.store import Relationship

router = APIRouter(prefix="/relationships", tags=["relationships"])

Other = Annotated[UUID, Path()]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    accept: bool


@router.get("", responses=documented(HTTPStatus.UNAUTHORIZED))
async def list_relationships(user: CurrentUser, services: Provided) -> list[Relationship]:
    return await services.relationships.own(user.user_id)


@router.put(
    "/requests/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(
        HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS
    ),
)
async def request_friendship(user_id: Other, user: CurrentUser, services: Provided) -> None:
    await services.limits.take(CREATE_BY_USER, str(user.user_id))
    await services.relationships.request(user.user_id, user_id)


@router.post(
    "/requests/{user_id}/answer",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, body=True),
)
async def answer_friendship(user_id: Other, answer: Answer, user: CurrentUser, services: Provided) -> None:
    """Accept or reject the request of `user_id`."""
    await services.relationships.answer(user.user_id, user_id, accept=answer.accept)


@router.put(
    "/blocks/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND),
)
async def block_user(user_id: Other, user: CurrentUser, services: Provided) -> None:
    await services.relationships.block(user.user_id, user_id)


@router.delete(
    "/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND),
)
async def end_relationship(user_id: Other, user: CurrentUser, services: Provided) -> None:
    await services.relationships.end(user.user_id, user_id)
