"""What happened when a user tried a command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

# An EXEC is refused as a transaction that fails; settings refuse DEBUG and MODULE before any right is asked for.
DENIALS = ("NOPERM", "no permissions", "command not allowed")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The server's answer, or its refusal: `denied` for want of rights, `locked_out` for want of a logon.

    `lost` tells that it closed the connection or did not answer in time.
    """

    answer: Any = None
    error: str | None = None
    denied: bool = False
    locked_out: bool = False
    lost: bool = False

    @property
    def answered(self) -> bool:
        """Whether the command was done."""
        return self.error is None

    def holds(self, word: str) -> bool:
        """Return whether the answer holds `word` anywhere, a refusal's text included."""
        return word in f"{self.answer!r} {self.error}"

    def __str__(self) -> str:
        if self.denied or self.locked_out:
            return "denied"
        return f"answered {self.answer!r}"[:80] if self.error is None else f"error {self.error}"[:80]


def attempt(client: redis.Redis, *words: str | bytes) -> Attempt:
    """Send a command as it is and return what came of it; even a lost connection may be what was meant."""
    try:
        return Attempt(client.execute_command(*words))  # type: ignore[no-untyped-call]
    except redis.RedisError as error:
        return _failed(error)


def attempt_all(client: redis.Redis, commands: Iterable[Sequence[str]]) -> list[Attempt]:
    """Send commands at once, none of which may change the connection, and return what came of each.

    Raises redis.ConnectionError when the connection is lost.
    """
    sent = [list(words) for words in commands]
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands(sent))  # type: ignore[no-untyped-call]
        answers = [_answer(connection) for _ in sent]
    except redis.RedisError:
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        client.connection_pool.release(connection)
    return answers


def _answer(connection: redis.Connection) -> Attempt:
    """Read one answer as it is; the driver would close a connection that is not let in."""
    try:
        return Attempt(connection.read_response(disconnect_on_error=False))
    except redis.RedisError as error:
        failed = _failed(error)
        if failed.lost:
            raise
        return failed


def _failed(error: redis.RedisError) -> Attempt:
    text = str(error)
    return Attempt(
        error=text,
        denied=any(words in text for words in DENIALS) or isinstance(error, redis.exceptions.NoPermissionError),
        locked_out=isinstance(error, redis.AuthenticationError) or "NOAUTH" in text,
        lost=isinstance(error, redis.ConnectionError | redis.TimeoutError)
        and not isinstance(error, redis.AuthenticationError),
    )


@contextmanager
def changed_settings(admin: redis.Redis, settings: Mapping[str, str]) -> Iterator[None]:
    """Set `settings` for the block, and what was before after it. Raises redis.RedisError when one is refused."""
    before = {name: admin.execute_command("CONFIG GET", name)[1] for name in settings}  # type: ignore[no-untyped-call]
    try:
        for name, value in settings.items():
            admin.execute_command("CONFIG SET", name, value)  # type: ignore[no-untyped-call]
        yield
    finally:
        for name, value in before.items():
            attempt(admin, "CONFIG", "SET", name, value)
