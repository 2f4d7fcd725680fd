"""The base that a rewrite of the append-only file makes, read while the server's child still writes it.

So compressing a dump takes no time after it. The child writes from front to back, to `temp-rewriteaof-*.aof` in the
data directory, and the server renames that when it is complete (Redis 7, src/aof.c): an open file stays the same one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from dbkeep.backup.log.append_only_file import hold
from dbkeep.errors import DbkeepError

TEMPORARY = "temp-rewriteaof-*.aof"
POLL_SECONDS = 0.01


class RewrittenBase:
    """A readable file: the base before the incremental file `sequence`, whose rewrite began after `since`.

    `writing` says whether the rewrite goes on; it raises DbkeepError when that failed or takes too long. So does
    `read`, also when another rewrite has replaced the base meanwhile.
    """

    def __init__(self, data_directory: Path, sequence: int, since: datetime, writing: Callable[[], bool]) -> None:
        self._data_directory = data_directory
        self._sequence = sequence
        self._since = since
        self._writing = writing
        self._file: BinaryIO | None = None
        self._complete = False

    def __enter__(self) -> RewrittenBase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, once there are some; none at the end of a complete base."""
        while self._file is None:
            self._file = self._open()
        while not self._complete:
            if data := self._file.read(size):
                return data
            time.sleep(POLL_SECONDS)
            # Where more has come the server need not be asked.
            if data := self._file.read(size):
                return data
            if not self._writing():
                self._require_base(self._file)
                self._complete = True  # what was written last is still to be read
        return self._file.read(size)

    def _open(self) -> BinaryIO | None:
        """Open what the child writes, or the base when it has ended; None when it has not begun yet."""
        if not self._writing():
            with suppress(FileNotFoundError):
                return self._base().open("rb")
            raise self._replaced()
        for path in self._data_directory.glob(TEMPORARY):
            # Renamed or removed in between. Older ones are of children that were killed.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime >= self._since.timestamp():
                    return path.open("rb")
        time.sleep(POLL_SECONDS)
        return None

    def _base(self) -> Path:
        held = hold(self._data_directory)
        if held.first != self._sequence:
            raise self._replaced()
        return held.base

    def _require_base(self, file: BinaryIO) -> None:
        try:
            same = os.path.samestat(os.fstat(file.fileno()), self._base().stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise self._replaced()

    def _replaced(self) -> DbkeepError:
        return DbkeepError(
            f"{self._data_directory}: the append-only file was rewritten again meanwhile; take the set again"
        )
