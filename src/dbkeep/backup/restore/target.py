"""What a restore goes to: a set, a point or a time, and what of a repository or a store brings each engine there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from dbkeep.backup.clock import after_of, is_crossed, place
from dbkeep.backup.log.slice_copies import read_slice_of
from dbkeep.backup.log.slices import Slice, chain_after, local_keys, log_folder, slice_keys
from dbkeep.backup.manifest import NEWEST, Part, RecoveryPoint, newest, read_part, read_sets
from dbkeep.backup.points import fences_of, find_points
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.stores.copies import newest_copy, read_copies, read_copy
from dbkeep.backup.stores.store import Store, open_store
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now

# A moment is one of the seconds that Redis writes into its log: the engines agree to that, not better.
TIME_SKEW = timedelta(seconds=1)
# Longer than MongoDB waits for a majority of a fence.
MARGIN = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Target:
    """One of three: the name of a point, a moment (aware), or without both a set, the newest one by default."""

    set_id: str = NEWEST
    point: str | None = None
    to: datetime | None = None

    def __str__(self) -> str:
        if self.point:
            return f"point {self.point}"
        return f"time {self.to.isoformat()}" if self.to else f"set {self.set_id}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What brings one engine to a target: the newest set before it, and the slices from there to `point`.

    `point` is None where the set's own recovery point is the target. `margin` are the slices just before: a position is
    a little older than the moment at which the host knew it, and the engine says which slice holds it.
    """

    part: Part
    point: RecoveryPoint | None = None
    slices: tuple[Slice, ...] = ()
    margin: tuple[Slice, ...] = ()

    @property
    def at(self) -> datetime:
        return (self.point or self.part.recovery_point).at


@dataclass(frozen=True, slots=True)
class Choice:
    """What brings the engines of a host to a target; all of them go to moments between `began` and `at`."""

    engines: dict[str, Chosen]
    began: datetime
    at: datetime

    @property
    def skew_seconds(self) -> float:
        return round((self.at - self.began).total_seconds(), 6)


def check_time(moment: datetime) -> datetime:
    """Return `moment` in UTC; raises UsageError when it is not a whole second, has no zone or is not past."""
    if moment.tzinfo is None:
        raise UsageError(f"{moment.isoformat()} has no zone: write {moment.isoformat()}Z for UTC")
    if moment.microsecond:
        raise UsageError(f"{moment.isoformat()}: a restore goes to a whole second; leave the fraction out")
    if moment >= now():
        raise UsageError(f"{moment.isoformat()} is not past yet")
    return moment.astimezone(UTC)


def choose(host: BackupHost, target: Target, engines: tuple[str, ...], store: str = LOCAL) -> Choice:
    """Return what brings each engine to the target, out of the repository of this host or a store.

    Raises UsageError when there is no such set, point or earlier set, DbkeepError when the log has a gap on the way.
    """
    there = None if store == LOCAL else open_store(host, store)
    if target.point is None and target.to is None:
        own = {engine: Chosen(part) for engine, part in _set(host, there, target.set_id, engines).items()}
        moments = [chosen.at for chosen in own.values()]
        return Choice(own, min(moments), max(moments))
    if target.point is not None:
        points = find_points(host, target.point, there)
        fences = fences_of(points, engines, target.point)
        began = min(point.began_at for point in points if not fences.keys().isdisjoint(point.fences))
    else:
        assert target.to is not None  # noqa: S101 - for the type checker
        fences = dict.fromkeys(engines, RecoveryPoint(at=check_time(target.to), name=""))
        began = target.to - TIME_SKEW
    parts = _parts(host, there)
    carried = {engine: _carried(host, there, parts, engine, fence) for engine, fence in fences.items()}
    return Choice(carried, began, max(fence.at for fence in fences.values()))


def _set(host: BackupHost, store: Store | None, set_id: str, engines: tuple[str, ...]) -> dict[str, Part]:
    keys = host.settings.signing_keys
    if store is None:
        set_id = newest(host.sets, engines, keys) if set_id == NEWEST else set_id
        return {engine: read_part(host.sets, set_id, engine, keys) for engine in engines}
    set_id = newest_copy(store, engines, keys) if set_id == NEWEST else set_id
    return {engine: read_copy(store, set_id, engine, keys) for engine in engines}


def _parts(host: BackupHost, store: Store | None) -> list[Part]:
    if store is not None:
        return read_copies(store, host.settings.signing_keys)
    return [part for parts in read_sets(host.sets, host.settings.signing_keys) for part in parts.values()]


def _carried(host: BackupHost, store: Store | None, parts: Sequence[Part], engine: str, point: RecoveryPoint) -> Chosen:
    own = sorted((part for part in parts if part.engine == engine), key=lambda part: part.recovery_point.place)
    keys = _slice_keys(host, store, engine)
    if not point.name:
        places = sorted([*map(_place, keys), *(part.recovery_point.place for part in own)])
        point = point.model_copy(update={"after": after_of(places, point.at)})
    before = [part for part in own if part.recovery_point.place <= point.place]
    if not before:
        raise UsageError(
            f"{engine}: no set is before {point.at.isoformat()}; the earliest moment is that of the first set "
            "(`dbkeep backup list`)"
        )
    part = before[-1]
    begin = part.recovery_point
    if not point.name and is_crossed(begin.place, point.after, point.at):
        raise UsageError(
            f"{engine}: the clock was set back after set {part.set_id} was taken, and nothing can be restored by its "
            f"time until a later set: choose a point (`dbkeep backup points`) or a moment after the next set"
        )
    found = _slices(host, store, keys, place(begin.at - MARGIN, begin.after), point.place)
    try:
        chain = chain_after(found, begin, point)
    except DbkeepError as error:
        raise DbkeepError(f"{engine}: from set {part.set_id} on: {error}") from None
    return Chosen(part, point, tuple(chain), tuple(found[: found.index(chain[0])]))


def _place(key: str) -> str:
    return PurePosixPath(key).stem


def _slice_keys(host: BackupHost, store: Store | None, engine: str) -> list[str]:
    if store is None:
        return local_keys(host.settings.repository, engine)
    return slice_keys(store.sizes(f"{log_folder(engine)}/"), engine)


def _slices(host: BackupHost, store: Store | None, keys: Sequence[str], after: str, until: str) -> list[Slice]:
    """Return the slices that end at `after` or later, oldest first, up to the first that ends after `until`.

    Their names say where they end, so that no other record is read. Raises DbkeepError for one that is damaged.
    """
    names = [_place(key) for key in keys]
    wanted = keys[bisect_left(names, after) : bisect_right(names, until) + 1]
    return [read_slice_of(host, store, key) for key in wanted]
