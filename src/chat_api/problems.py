"""Every error leaves the API as application/problem+json (RFC 9457), without echoing what was sent."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
import psycopg_pool
import pymongo.errors
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from chat_api.stores.mongodb import is_refusal
from chat_api.stores.redis import Unavailable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STORE_UNAVAILABLE: tuple[type[Exception], ...] = (
    psycopg.OperationalError,
    psycopg_pool.PoolTimeout,
    psycopg_pool.TooManyRequests,
    pymongo.errors.ConnectionFailure,
    pymongo.errors.ExecutionTimeout,
    Unavailable,
)
"""What is raised when a store is down, too slow, or its pool is exhausted."""


class ProblemBody(BaseModel):
    """The members of RFC 9457, section 3.1, and `errors` for the parts of a request that did not validate."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer that is not a success. `detail` is for people and holds nothing secret."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def not_found(what: str) -> Problem:
    """Return the one answer for what does not exist and for what belongs to someone else."""
    return Problem(HTTPStatus.NOT_FOUND, f"There is no such {what}.")


def unauthorized(detail: str = "Log in and send the access token.") -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer realm="chat"'})


def unavailable() -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "A store does not answer now. Try again.", {"Retry-After": "2"})


def documented(*statuses: HTTPStatus, body: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route that may answer with these problems; `body` if it reads one."""
    of_body = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE) if body else ()
    always = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)
    return {
        int(status): {"model": ProblemBody, "description": status.phrase, "content": {MEDIA_TYPE: {}}}
        for status in (*statuses, *of_body, *always)
    }


def _answer(
    status: int, detail: str, headers: Mapping[str, str] | None = None, errors: list[dict[str, str]] | None = None
) -> JSONResponse:
    body = ProblemBody(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


async def _problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this class only
    return _answer(error.status, error.detail, error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    # The input is left out: it may be a password.
    errors = [{"at": ".".join(map(str, part["loc"])), "problem": str(part["msg"])} for part in error.errors()]
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, "Parts of the request are not valid.", errors=errors)


async def _store(_: Request, error: Exception) -> JSONResponse:
    logger.error("store unavailable: %s", type(error).__name__)
    problem = unavailable()
    return _answer(problem.status, problem.detail, problem.headers)


async def _failed_operation(request: Request, error: Exception) -> JSONResponse:
    """A store that lets the API in no more is down for it; any other failure of an operation is ours."""
    assert isinstance(error, pymongo.errors.OperationFailure)  # noqa: S101 - registered for this class only
    if not is_refusal(error):
        raise error
    return await _store(request, error)


def register(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make `app` answer every expected error as a problem; `chat_api.requests` answers the unexpected ones.

    `routes` are all of the API's: a 405 lists what the path allows, which each route alone does not know.
    """

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
            methods = {method for route in matching for method in getattr(route, "methods", ())}
            headers["Allow"] = ", ".join(sorted(methods))
        return _answer(error.status_code, str(error.detail), headers)

    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(pymongo.errors.OperationFailure, _failed_operation)
    for kind in STORE_UNAVAILABLE:
        app.add_exception_handler(kind, _store)
