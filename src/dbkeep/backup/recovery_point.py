"""One moment for all engines of a host: their fences are set at once, and how far apart they are is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from dbkeep.backup.job import Fence


def set_fences(setters: Mapping[str, Callable[[], Fence | None]]) -> dict[str, Fence | None]:
    """Call every engine's setter at the same time and return what each returned; raises the first error there was."""
    with ThreadPoolExecutor(max_workers=max(1, len(setters))) as pool:
        running = {engine: pool.submit(setter) for engine, setter in setters.items()}
        return {engine: future.result() for engine, future in running.items()}


def skew_seconds(moments: list[datetime]) -> float:
    """Return how far apart the moments of a set are: the data of its engines may differ by the writes in between."""
    return round((max(moments) - min(moments)).total_seconds(), 3) if moments else 0.0
