"""Slices of PostgreSQL: the WAL segments that were archived since the newest slice, as they are in the repository."""

from __future__ import annotations

import socket
import time
from datetime import datetime

from dbkeep.backup.manifest import read_sets
from dbkeep.backup.pgbackrest_files import digest
from dbkeep.backup.postgresql import ENGINE
from dbkeep.backup.postgresql_engine import engine_here
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.slices import Slice, end_after, write_slice
from dbkeep.backup.wal_archive import WAIT_SECONDS, WalArchive
from dbkeep.errors import DbkeepError
from dbkeep.evidence import now
from dbkeep.postgresql.connect import Connection, connect

State = dict[str, str]
_STATE = """
SELECT system_identifier::text, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_current_snapshot()::text
FROM pg_control_system()
"""
_ARCHIVER = "SELECT coalesce(last_archived_wal, ''), coalesce(last_failed_wal, '') FROM pg_stat_archiver"


def cut(host: BackupHost, newest: Slice | None) -> list[Slice]:
    """Return the slice of what was written since `newest`, once `archive_seconds` have passed since that one ended.

    Where nothing was, it has no files. Where the log does not continue `newest` (another timeline or cluster, a segment
    that was never archived) it begins a chain, at the newest set that the log does continue.

    Raises DbkeepError naming the segment that does not reach the repository, UsageError when the server cannot be used.
    """
    backup, server = host.with_postgresql()
    at = now()
    if newest and 0 <= (at - newest.ended_at).total_seconds() < backup.archive_seconds:
        return []
    with connect(server) as connection:
        idle = newest and newest.details == _state(connection)
        found = _nothing_since(newest, at) if newest and idle else _since(host, connection, newest, at)
    write_slice(host.settings.repository, found)
    return [found]


def _state(connection: Connection) -> State:
    """Return what differs once a transaction has ended since, and which cluster and timeline it is of."""
    row = connection.execute(_STATE).fetchone()
    assert row is not None  # noqa: S101 - functions return one row or raise
    return dict(zip(("system_identifier", "timeline", "snapshot"), row, strict=True))


def _nothing_since(newest: Slice, at: datetime) -> Slice:
    return newest.model_copy(
        update={
            "first": newest.last,
            "started_at": newest.ended_at,
            "ended_at": end_after(newest, at),
            "begins_chain": False,
            "repository_files": (),
        }
    )


def _since(host: BackupHost, connection: Connection, newest: Slice | None, at: datetime) -> Slice:
    # Recovery to a time needs a transaction that ends later: every slice ends with one of its own.
    connection.execute("SELECT pg_current_xact_id()")
    state = _state(connection)
    row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    assert row is not None  # noqa: S101 - the function returns one row or raises
    last = str(row[0])
    archive = engine_here(host).archive(host, connection)
    _wait_until_archived(connection, last)
    continues = newest is not None and _continues(newest, state, archive, last)
    if newest and continues:
        first, started_at = newest.last, newest.ended_at
    else:
        first, started_at = _beginning(host, archive, last, at, state)
    files = archive.files(archive.after(first), last)
    return Slice(
        engine=ENGINE,
        host=socket.gethostname(),
        first=first,
        last=last,
        started_at=started_at,
        ended_at=end_after(newest, at),
        begins_chain=not continues,
        repository_files=digest(host.settings.repository, files.values(), {}),
        details=dict(state),
    )


def _continues(newest: Slice, state: State, archive: WalArchive, last: str) -> bool:
    same = all(newest.details.get(name) == state[name] for name in ("system_identifier", "timeline"))
    return same and not archive.missing(archive.after(newest.last), last)


def _wait_until_archived(connection: Connection, segment: str) -> None:
    """Return when the server is done with all segments up to this one: it archives the oldest first."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        row = connection.execute(_ARCHIVER).fetchone()
        assert row is not None  # noqa: S101 - the view has one row
        if row[0][: len(segment)] >= segment:
            return
        if time.monotonic() > deadline:
            failed = f"; archiving of {row[1]} failed last" if row[1] else ""
            raise DbkeepError(
                f"postgresql: WAL segment {segment} did not reach the repository in {WAIT_SECONDS} s{failed}; "
                "read the server log and /var/log/pgbackrest"
            )
        time.sleep(0.1)


def _beginning(host: BackupHost, archive: WalArchive, last: str, at: datetime, state: State) -> tuple[str, datetime]:
    """Return after which segment a chain that ends with `last` begins, and the moment that it can carry on from."""
    if archive.missing(last, last):
        raise DbkeepError(
            f"postgresql: WAL segment {last} is not in the repository although it was archived: it was let go for want "
            "of space (archive-push-queue-max) or deleted; look at the disk, then take a set"
        )
    for part in (parts[ENGINE] for parts in reversed(read_sets(host.sets)) if ENGINE in parts):
        point, timeline = part.details["segment"], int(state["timeline"], 16)
        same = (part.details["system_identifier"], part.details["timeline"]) == (state["system_identifier"], timeline)
        if same and not archive.missing(point, last):
            return archive.before(point), part.recovery_point.at
    return archive.before(last), at
