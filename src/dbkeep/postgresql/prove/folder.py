"""The folder a throw-away server lives in: in memory where there is room, and never left behind for good."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "dbkeep-prover-"
# A database is a thousand small files: in memory a copy takes 10 ms, on a slow disk 300.
MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own in it
MEMORY_NEEDED = 1 << 30


@contextmanager
def fresh() -> Iterator[Path]:
    """Yield a new folder that only its owner can list, removed at the end.

    What runs that were killed left behind is removed first: each run holds a lock on its folder, which the kernel
    releases however the run ends.
    """
    place = _place()
    # Nobody may look for leftovers between the making of a folder and its lock.
    looking = _locked(place, wait=True)
    try:
        _remove_leftovers(place)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        held = _locked(folder)
    finally:
        os.close(looking)
    try:
        folder.chmod(0o711)  # the server's own user must reach its folder inside
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(held)


def _place() -> Path:
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        return MEMORY
    return Path(tempfile.gettempdir())


def _remove_leftovers(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        try:
            held = _locked(folder)
        except OSError:  # another run's, another user's, or no folder
            continue
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)


def _locked(folder: Path, *, wait: bool = False) -> int:
    """Return a descriptor that holds the lock of `folder`. Raises OSError when it is taken, or is no folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
