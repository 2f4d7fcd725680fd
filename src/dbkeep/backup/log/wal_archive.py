"""PostgreSQL's write-ahead log in the repository: which segments are there, and which are missing between two.

Both engines of the backup keep it the same way: FIRST-16-CHARACTERS/SEGMENT-DIGEST.EXTENSION below one folder of the
cluster, each file complete from the moment it has its name. A segment's name is its timeline and its number, eight
hexadecimal digits and sixteen (PostgreSQL, access/xlog_internal.h).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import Connection

FOLDER_NAME = 16
SEGMENT_NAME = 24
WAIT_SECONDS = 60
# pgBackRest writes under a longer name, which ends with .pgbackrest.tmp.
_ARCHIVER = "SELECT coalesce(last_archived_wal, ''), coalesce(last_failed_wal, '') FROM pg_stat_archiver"
_FILE = re.compile(r"([0-9A-F]{24})-[0-9a-f]{40,64}(\.(gz|bz2|lz4|zst|zst\.age))?")


def timeline_of(segment: str) -> int:
    """Return the timeline of a segment."""
    return int(segment[:8], 16)


@dataclass(frozen=True, slots=True)
class WalArchive:
    """The archive of one cluster, whose segments have `segment_bytes`."""

    folder: Path
    segment_bytes: int

    def number(self, segment: str) -> int:
        """Return the place of a segment in its timeline."""
        return int(segment[8:16], 16) * self._per_name + int(segment[16:], 16)

    def name(self, timeline: int, number: int) -> str:
        """Return the name of a segment."""
        return f"{timeline:08X}{number // self._per_name:08X}{number % self._per_name:08X}"

    def before(self, segment: str) -> str:
        """Return the segment before one, on its timeline."""
        return self.name(timeline_of(segment), self.number(segment) - 1)

    def after(self, segment: str) -> str:
        """Return the segment after one, on its timeline."""
        return self.name(timeline_of(segment), self.number(segment) + 1)

    @property
    def _per_name(self) -> int:
        return 0x1_0000_0000 // self.segment_bytes

    def files(self, first: str, last: str) -> dict[str, Path]:
        """Return the files of the segments from `first` to `last` that are there, in order; both on one timeline."""
        return {segment: path for segment, path in self._in(first, last) if first <= segment <= last}

    def _in(self, first: str, last: str) -> Iterator[tuple[str, Path]]:
        for folder in sorted(self.folder.glob(f"{last[:8]}*")):
            if first[:FOLDER_NAME] <= folder.name <= last[:FOLDER_NAME]:
                for path in sorted(folder.iterdir()):
                    if found := _FILE.fullmatch(path.name):
                        yield found[1], path

    def missing(self, first: str, last: str) -> list[str]:
        """Return the segments from `first` to `last`, both on one timeline, that are not there."""
        there = self.files(first, last)
        numbers = range(self.number(first), self.number(last) + 1)
        names = (self.name(timeline_of(last), number) for number in numbers)
        return [name for name in names if name not in there]

    def histories(self) -> list[Path]:
        """Return the histories of the cluster's timelines."""
        return sorted(self.folder.glob("????????.history*"))


def segment_bytes(connection: Connection) -> int:
    """Return how large the server's segments are."""
    row = connection.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'").fetchone()
    assert row is not None  # noqa: S101 - every server has the setting
    return int(row[0])


def write_transaction(connection: Connection) -> None:
    """Log the end of a transaction: recovery to a time needs one that ends later."""
    connection.execute("SELECT pg_current_xact_id()")


def create_restore_point(connection: Connection, name: str) -> None:
    """Log a place where recovery to that name stops (PostgreSQL manual, pg_create_restore_point)."""
    connection.execute("SELECT pg_create_restore_point(%s)", [name])


def archive_segment(connection: Connection) -> str:
    """Have the server archive what was written until now, which must be something; return the segment it ends with."""
    row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    assert row is not None  # noqa: S101 - the function returns one row or raises
    return str(row[0])


def wait_until_archived(connection: Connection, segment: str, seconds: float = WAIT_SECONDS) -> None:
    """Return when the server is done with all segments up to this one: it archives the oldest first.

    Raises DbkeepError naming what failed last after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        row = connection.execute(_ARCHIVER).fetchone()
        assert row is not None  # noqa: S101 - the view has one row
        if row[0][:SEGMENT_NAME] >= segment:
            return
        if time.monotonic() > deadline:
            failed = f"; archiving of {row[1]} failed last" if row[1] else ""
            raise DbkeepError(
                f"postgresql: WAL segment {segment} was not archived in {seconds:g} s{failed}; "
                "read the server log and /var/log/pgbackrest"
            )
        time.sleep(0.1)
