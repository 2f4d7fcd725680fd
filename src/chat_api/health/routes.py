"""GET /health/live, GET /health/ready."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from chat_api.dependencies import Provided

router = APIRouter(prefix="/health", tags=["health"])


class Live(BaseModel):
    status: Literal["live"] = "live"


class Ready(BaseModel):
    """`failing` names the stores that do not answer; why is in the log of the service."""

    status: Literal["ready", "not ready"]
    stores: dict[str, Literal["ready", "failing"]]
    failing: list[str]


@router.get("/live")
async def live() -> Live:
    """The process answers. It says nothing of the stores, so that no supervisor restarts it for their sake."""
    return Live()


@router.get("/ready", responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Ready}})
async def ready(services: Provided, response: Response) -> Ready:
    """Every store answers the API's own users; 503 names those that do not."""
    readiness = await services.stores.readiness()
    failing = [name for name, answers in readiness.items() if not answers]
    if failing:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Ready(
        status="not ready" if failing else "ready",
        stores={name: "ready" if answers else "failing" for name, answers in readiness.items()},
        failing=failing,
    )
