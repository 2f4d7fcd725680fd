"""POST /auth/register, /auth/login, /auth/refresh, /auth/logout."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request

from chat_api.auth.schemas import Login, Refresh, Registered, Registration, Tokens
from chat_api.dependencies import CurrentUser, Provided
from chat_api.limits import LOGIN_BY_ACCOUNT, LOGIN_BY_ADDRESS, REFRESH_BY_ADDRESS, REGISTER_BY_ADDRESS, network
from chat_api.problems import documented

router = APIRouter(prefix="/auth", tags=["auth"])


@router.post(
    "/register",
    status_code=HTTPStatus.CREATED,
    responses=documented(HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, body=True),
)
async def register(registration: Registration, request: Request, services: Provided) -> Registered:
    await services.limits.take(REGISTER_BY_ADDRESS, network(request))
    user_id = await services.authentication.register(
        registration.username, registration.email, registration.password.get_secret_value()
    )
    return Registered(id=user_id, username=registration.username)


@router.post("/login", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS, body=True))
async def log_in(login: Login, request: Request, services: Provided) -> Tokens:
    await services.limits.take(LOGIN_BY_ADDRESS, network(request))
    await services.limits.take(LOGIN_BY_ACCOUNT, services.authentication.limited_subject(login.login))
    return await services.authentication.log_in(login.login, login.password.get_secret_value())


@router.post("/refresh", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS, body=True))
async def refresh(token: Refresh, request: Request, services: Provided) -> Tokens:
    await services.limits.take(REFRESH_BY_ADDRESS, network(request))
    return await services.authentication.refresh(token.refresh_token.get_secret_value())


@router.post("/logout", status_code=HTTPStatus.NO_CONTENT, responses=documented(HTTPStatus.UNAUTHORIZED))
async def log_out(user: CurrentUser, services: Provided) -> None:
    await services.authentication.log_out(user)
