"""Slices of PostgreSQL: the WAL segments that were archived since the newest slice, as they are in the repository."""

from __future__ import annotations

import socket
from datetime import datetime

from dbkeep.backup.clock import place
from dbkeep.backup.log.slices import AFTER, STARTED_AFTER, Slice, end_after, started_after, write_slice
from dbkeep.backup.log.wal_archive import (
    WalArchive,
    archive_segment,
    create_restore_point,
    wait_until_archived,
    write_transaction,
)
from dbkeep.backup.manifest import RecoveryPoint, read_sets
from dbkeep.backup.pgbackrest_files import digest
from dbkeep.backup.postgresql import ENGINE
from dbkeep.backup.postgresql_engine import engine_here
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.evidence import now
from dbkeep.postgresql.connect import Connection, connect

State = dict[str, str]
LOST = "lost"
# The restore point at the end of what a slice has: all of it is before that, and nothing of the next one.
END = "end"
STUCK_SECONDS = 30
_STATE = """
SELECT system_identifier::text, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_current_snapshot()::text
FROM pg_control_system()
"""
_WAITING = """
SELECT min(left(name, 24)), coalesce(extract(epoch FROM now() - min(modification)), 0)::int
FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'
"""


def cut(host: BackupHost, newest: Slice | None) -> list[Slice]:
    """Return the slice of what was written since `newest`, once `archive_seconds` have passed since that one ended.

    Where nothing was, it has no files. Where the log does not continue `newest` (another timeline or cluster, a segment
    that was never archived) it begins a chain, at the newest set that the log does continue, and its details say why.

    Raises DbkeepError naming the segment that does not reach the repository, UsageError when the server cannot be used.
    """
    backup, server = host.with_postgresql()
    at = now()
    if newest and 0 <= (at - newest.ended_at).total_seconds() < backup.archive_seconds:
        return []
    with connect(server) as connection:
        if newest and newest.details | _state(connection) == newest.details:
            found = _nothing_since(newest, at)
        else:
            found = _since(host, connection, newest, at)
    found = write_slice(host.settings.repository, found, host.settings.signing_key_file)
    return [found]


def _state(connection: Connection) -> State:
    """Return what differs once a transaction has ended since, and which cluster and timeline it is of."""
    row = connection.execute(_STATE).fetchone()
    assert row is not None  # noqa: S101 - functions return one row or raise
    return dict(zip(("system_identifier", "timeline", "snapshot"), row, strict=True))


def _nothing_since(newest: Slice, at: datetime) -> Slice:
    ended_at, end_place = end_after(newest, at)
    of_one = (LOST, AFTER, STARTED_AFTER)
    return newest.model_copy(
        update={
            "first": newest.last,
            "started_at": newest.ended_at,
            "ended_at": ended_at,
            "begins_chain": False,
            "repository_files": (),
            "details": {name: value for name, value in newest.details.items() if name not in of_one}
            | end_place
            | started_after(newest.after),
        }
    )


def _since(host: BackupHost, connection: Connection, newest: Slice | None, at: datetime) -> Slice:
    archive = engine_here(host).archive(host, connection)
    _refuse_backlog(connection)
    write_transaction(connection)
    # Before the switch: what ends between the two is in this slice, and makes the next one look for more in vain.
    state = _state(connection)
    end = f"dbkeep_log_{place(at)}"
    create_restore_point(connection, end)
    last = archive_segment(connection)
    wait_until_archived(connection, last)
    lost = _lost(newest, state, archive, last) if newest else ""
    ended_at, end_place = end_after(newest, at)
    if newest and not lost:
        first, start = newest.last, RecoveryPoint(at=newest.ended_at, name="", after=newest.after)
    else:
        here = RecoveryPoint(at=at, name="", after=end_place.get(AFTER, ""))
        first, start = _beginning(host, archive, last, here, state)
    files = archive.files(archive.after(first), last)
    return Slice(
        engine=ENGINE,
        host=socket.gethostname(),
        first=first,
        last=last,
        started_at=start.at,
        ended_at=ended_at,
        begins_chain=newest is None or bool(lost),
        repository_files=digest(host.settings.repository, files.values(), {}),
        details=state | {END: end} | end_place | started_after(start.after) | ({LOST: lost} if lost else {}),
    )


def _refuse_backlog(connection: Connection) -> None:
    """Raise DbkeepError where archiving does not go on: another switch would only fill the disk sooner."""
    row = connection.execute(_WAITING).fetchone()
    assert row is not None  # noqa: S101 - it is an aggregate
    if row[1] > STUCK_SECONDS:
        raise DbkeepError(
            f"postgresql: WAL segment {row[0]} waits to be archived for {row[1]} s; "
            "read the server log and /var/log/pgbackrest"
        )


def _lost(newest: Slice, state: State, archive: WalArchive, last: str) -> str:
    """Return why the log up to `last` does not continue `newest`, or nothing where it does."""
    for name, what in (("system_identifier", "another cluster is here"), ("timeline", "the cluster was restored")):
        if newest.details.get(name) != state[name]:
            return f"postgresql: {what}: its log does not continue slice {newest.name}"
    missing = archive.missing(archive.after(newest.last), last)
    return (
        f"postgresql: WAL segment {missing[0]} is gone, {len(missing)} in all, before it was shipped" if missing else ""
    )


def _beginning(
    host: BackupHost, archive: WalArchive, last: str, here: RecoveryPoint, state: State
) -> tuple[str, RecoveryPoint]:
    """Return after which segment a chain that ends with `last` begins, and the moment that it can carry on from."""
    if archive.missing(last, last):
        raise DbkeepError(
            f"postgresql: WAL segment {last} is not in the repository although it was archived: it was let go for want "
            "of space (archive-push-queue-max) or deleted; look at the disk, then take a set"
        )
    for part in (
        parts[ENGINE] for parts in reversed(read_sets(host.sets, host.settings.signing_keys)) if ENGINE in parts
    ):
        point, timeline = part.details["segment"], int(state["timeline"], 16)
        same = (part.details["system_identifier"], part.details["timeline"]) == (state["system_identifier"], timeline)
        if same and not archive.missing(point, last):
            return archive.before(point), part.recovery_point
    return archive.before(last), here
