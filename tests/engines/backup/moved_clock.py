"""A clock that a test sets: for servers that are started under libfaketime, and for the agent's own modules."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dbkeep import backup

# The library looks at the file once a second.
CACHED = 1.5


class Moved(type):
    """Any moment is one of the agent's, whoever made it."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class Clock(datetime, metaclass=Moved):
    """What the agent's modules have in place of datetime."""

    offset: ClassVar[timedelta] = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.offset


class Faked(subprocess.Popen[Any]):
    """A program that setpriv(1) starts. The library must not see that: what it shares belongs to the first user."""

    variables: ClassVar[dict[str, str]] = {}

    def __init__(self, command: Sequence[str], **rest: Any) -> None:
        # redis-server does not start under it: both want to be first at the memory.
        if command[0] == "setpriv" and not any("redis-server" in word for word in command):
            place = command.index("--") + 1
            clock = [f"{name}={value}" for name, value in self.variables.items()]
            command = [*command[:place], "env", *clock, *command[place:]]
        super().__init__(command, **rest)


@contextmanager
def faked(clock: Path) -> Iterator[None]:
    """Give the servers that are started in the block the clock that a file sets."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    Faked.variables = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        # Whoever sets a clock leaves the monotonic one alone.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Faked)
        yield


@contextmanager
def moved_agent() -> Iterator[None]:
    """Let `Clock` be the clock of the agent in the block."""
    with pytest.MonkeyPatch.context() as patch:
        for found in pkgutil.walk_packages(backup.__path__, "dbkeep.backup."):
            import_module(found.name)
        for name, module in list(sys.modules.items()):
            if name.startswith("dbkeep.") and getattr(module, "datetime", None) is datetime:
                patch.setattr(module, "datetime", Clock)
        try:
            yield
        finally:
            Clock.offset = timedelta()


def set_clock(file: Path, offset: timedelta) -> None:
    """Set the clock of the agent, and of the servers that read `file`, so much ahead."""
    Clock.offset = offset
    file.write_text(f"+{offset.days}d\n")
    time.sleep(CACHED)
