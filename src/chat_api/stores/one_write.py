"""psycopg's pipeline, but what is in it goes out in one write.

psycopg writes every command by itself, a TLS record and a system call each, and asks the event loop in between. When to
write is decided by private methods of its pipeline (psycopg 3.3): tests/api/test_round_trips.py counts the records.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from psycopg import AsyncPipeline
from psycopg.abc import PQGen


class OneWrite(AsyncPipeline):
    """`async with OneWrite(connection)` sends what is executed inside when it ends, and then reads all results.

    Raises what they raise.
    """

    _is_whole = False

    async def __aenter__(self) -> Self:
        self._conn._pipeline = self
        try:
            return await super().__aenter__()
        except BaseException:
            self._conn._pipeline = None
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self._conn._pipeline = None

    def _communicate_gen(self) -> PQGen[None]:
        if self._is_whole:
            self._is_whole = False
            yield from super()._communicate_gen()

    def _enqueue_sync(self) -> None:
        super()._enqueue_sync()
        commands = list(self.command_queue)
        self.command_queue.clear()
        self.command_queue.append(lambda: _send(commands))
        self._is_whole = True

    def _fetch_gen(self, *, flush: bool) -> PQGen[None]:  # noqa: ARG002 - the Sync has the server send all it has
        yield from super()._fetch_gen(flush=False)


def _send(commands: list[Any]) -> None:
    for command in commands:
        command()
