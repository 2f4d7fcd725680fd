"""GET /settings, PUT and DELETE /settings/{key}."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints

from chat_api.dependencies import CurrentUser, Provided
from chat_api.problems import documented
from chat_api.text import Json

router = APIRouter(tags=["settings"])

Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,49}$"), Path()]


class SettingValue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    value: Json


@router.get("/settings", responses=documented(HTTPStatus.UNAUTHORIZED))
async def read_settings(user: CurrentUser, services: Provided) -> dict[str, JsonValue]:
    return await services.settings.own(user.user_id)


@router.put(
    "/settings/{key}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT, body=True),
)
async def put_setting(key: Key, setting: SettingValue, user: CurrentUser, services: Provided) -> None:
    await services.settings.put(user.user_id, key, setting.value)


@router.delete("/settings/{key}", status_code=HTTPStatus.NO_CONTENT, responses=documented(HTTPStatus.UNAUTHORIZED))
async def remove_setting(key: Key, user: CurrentUser, services: Provided) -> None:
    await services.settings.remove(user.user_id, key)
