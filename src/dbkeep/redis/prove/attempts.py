"""What happened when a user tried a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    pipeline = client.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
    answers = pipeline.execute(raise_on_error=False)
    return [_failed(answer) if isinstance(answer, redis.RedisError) else Attempt(answer) for answer in answers]


def _failed(error: redis.RedisError) -> Attempt:
    text = str(error)
    return Attempt(
        error=text,
        denied=any(words in text for words in DENIALS) or isinstance(error, redis.exceptions.NoPermissionError),
        locked_out=isinstance(error, redis.AuthenticationError) or "NOAUTH" in text,
        lost=isinstance(error, redis.ConnectionError | redis.TimeoutError)
        and not isinstance(error, redis.AuthenticationError),
    )
