"""Where a restore or drill of PostgreSQL stops: at the set's own restore point, at a later one, or at a time."""

from __future__ import annotations

from pathlib import Path

from dbkeep.backup.log.postgresql import END
from dbkeep.backup.log.slices import Slice, chain_after, read_slices
from dbkeep.backup.log.wal_archive import timeline_of
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.postgresql_engine import Goal, engine_of
from dbkeep.backup.sealed_file import check
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError, UsageError


def goal_of(host: BackupHost, part: Part, target: RecoveryPoint | None) -> Goal:
    """Return how the part is recovered to `target`, or to its own restore point when that is None.

    The slices between are checked first. Raises UsageError when the target is before the set's point, DbkeepError
    naming what is missing when the log does not lead there.
    """
    own = Goal("name", part.recovery_point.name, part.details["timeline"])
    if target is None or target == part.recovery_point:
        return own
    if target.place < part.recovery_point.place:
        raise UsageError(
            f"postgresql: {target.at.isoformat()} is before the point of set {part.set_id}, "
            f"{part.recovery_point.at.isoformat()}; take an earlier set"
        )
    chain = _chain(host, part, target)
    if target.name:
        return Goal("name", target.name, timeline_of(chain[-1].last), chain)
    # A slice with files ends with a transaction that is later than its end: recovery to a time stops before one that is
    # later, and fails where there is none.
    written = [found for found in chain if found.repository_files]
    if not written:
        return own
    newest = written[-1]
    if target.at > newest.ended_at and END in newest.details:
        # Those after it say that nothing changed since: all that it has is of before, what was written in the moment
        # between its end and its last segment too.
        return Goal("name", newest.details[END], timeline_of(newest.last), chain)
    at = min(target.at, newest.ended_at)
    return Goal("time", f"{at:%Y-%m-%d %H:%M:%S.%f}+00", timeline_of(newest.last), chain)


def restore_files(
    host: BackupHost,
    part: Part,
    identity: str,
    folder: Path,
    *,
    archive: bool,
    target: RecoveryPoint | None = None,
) -> None:
    """Fill the empty `folder` with the cluster of a part, set to recover to `target` and promote there.

    Without `archive` the restored server never archives, so that a copy cannot write into the live repository.
    Raises what `goal_of` raises, and DbkeepError when the backup is gone or damaged.
    """
    goal = goal_of(host, part, target)
    for stored in part.stored_files():
        if not (host.settings.repository / stored.name).exists():
            raise DbkeepError(f"{host.settings.repository / stored.name}: missing; take another set")
    engine_of(part).restore(host, part, identity, folder, goal, archive=archive)


def _chain(host: BackupHost, part: Part, target: RecoveryPoint) -> tuple[Slice, ...]:
    """Return the slices from the part's point to the target, after comparing every file with its digest."""
    damaged: list[str] = []
    slices = read_slices(host.settings.repository, part.engine, host.settings.signing_keys, damaged)
    try:
        chain = chain_after(slices, part.recovery_point, target)
    except DbkeepError as error:
        raise DbkeepError("; ".join([str(error), *damaged])) from None
    for found in chain:
        if found.details["system_identifier"] != part.details["system_identifier"]:
            raise DbkeepError(f"postgresql: slice {found.name} is of another cluster than set {part.set_id}")
        for stored in found.stored_files():
            check(host.settings.repository, stored)
    return tuple(chain)
