"""One moment for all engines of a host: their fences are set at once, and how far apart they are is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from threading import Barrier, BrokenBarrierError

from dbkeep.backup.job import Fence

CONNECT_SECONDS = 15
# Nobody waits longer for a moment that another host's clock named.
LONGEST_WAIT = 30.0


class Gate:
    """Where engines that are connected wait for the others and for a moment, so that connecting adds no skew.

    `began` is when the first one went through: every fence was set between then and its own `at`.
    """

    def __init__(self, engines: int, moment: datetime | None = None) -> None:
        self._barrier = Barrier(engines, timeout=CONNECT_SECONDS)
        self._moment = moment
        self._passed: list[datetime] = []

    def wait(self) -> None:
        """Return when all engines wait here, one of them failed or took too long, and the moment has come."""
        with suppress(BrokenBarrierError):
            self._barrier.wait()
        if self._moment:
            left = (self._moment - datetime.now(UTC)).total_seconds()
            time.sleep(min(max(0.0, left), LONGEST_WAIT))
        self._passed.append(datetime.now(UTC))

    def give_up(self) -> None:
        """Let the others through: an engine will not come."""
        self._barrier.abort()

    @property
    def began(self) -> datetime | None:
        return min(self._passed, default=None)


def set_fences(setters: Mapping[str, Callable[[], Fence | None]]) -> dict[str, Fence | None]:
    """Call every engine's setter at the same time and return what each returned; raises the first error there was."""
    with ThreadPoolExecutor(max_workers=max(1, len(setters))) as pool:
        running = {engine: pool.submit(setter) for engine, setter in setters.items()}
        return {engine: future.result() for engine, future in running.items()}


def skew_seconds(moments: list[datetime]) -> float:
    """Return how far apart the moments of a set are: the data of its engines may differ by the writes in between."""
    return round((max(moments) - min(moments)).total_seconds(), 3) if moments else 0.0
