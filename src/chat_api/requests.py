"""What surrounds every request: a bound on its body, one log line, and no failure that escapes as a traceback."""

from __future__ import annotations

import logging
import time
import traceback
from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_api.problems import MEDIA_TYPE, ProblemBody

logger = logging.getLogger("chat_api.requests")

BODY_BYTES = 64 * 1024


class RequestBounds:
    """ASGI middleware: answers 413 past BODY_BYTES, 500 for an unexpected failure, and logs method, route and status.

    Neither path nor query string, headers or bodies are logged: they hold names, cursors, tokens and passwords.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0
        received = 0

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is over {BODY_BYTES} bytes.")
            return message

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, bounded_receive, watched_send)
        except Exception as error:
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("unexpected %s\n%s", type(error).__name__, frames)
            if not status:
                await _answer(watched_send)
        finally:
            milliseconds = round((time.monotonic() - started) * 1000)
            # The route, not the path: who looks for a user by address puts one into it.
            route = scope.get("route")
            logger.info("%s %s %s %s ms", scope["method"], route.path if route else "-", status, milliseconds)


async def _answer(send: Send) -> None:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    problem = ProblemBody(title=status.phrase, status=status, detail="The request failed on our side.")
    body = problem.model_dump_json(exclude_none=True).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
