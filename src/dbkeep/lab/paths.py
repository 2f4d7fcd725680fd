"""Where the lab keeps what it makes, and the locks around it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbkeep.errors import UsageError

CACHE = Path("/var/cache/dbkeep")
STATE = Path("/var/lib/dbkeep/lab")
RELEASES = ("bookworm", "trixie")

# A bridge is called dbk-NAME, and the kernel allows 15 characters for an interface.
_NAME = re.compile(r"[a-z][a-z0-9]{0,10}")


def check_name(name: str) -> str:
    """Return `name` if a lab can be called so; raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a lab: use up to 11 lower-case letters and digits, a letter first")
    return name


def lab_directory(name: str) -> Path:
    return STATE / name


@contextmanager
def locked(path: Path, busy: str | None) -> Iterator[None]:
    """Hold the lock file `path`. While another process has it: raise UsageError(`busy`), or wait when that is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            file.seek(0)
            raise UsageError(f"{busy} (process {file.read().strip() or 'unknown'})") from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
