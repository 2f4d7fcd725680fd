"""Advisory locks (flock), which the kernel releases however their holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbkeep.errors import DbkeepError


class BusyError(DbkeepError):
    """Someone else holds the lock."""


@contextmanager
def hold(path: Path, purpose: str, *, shared: bool = False, patience: float = 0) -> Iterator[None]:
    """Hold the lock file `path` (made when missing) during the block, alone or with other `shared` holders.

    Raises BusyError naming the holder's process id and purpose when it is taken, and not free after `patience` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                raise BusyError(f"{path}: held by {holder}; wait for it to end, then try again") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} ({purpose})\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
