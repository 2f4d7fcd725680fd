"""Which points there are, and from where each can be restored: from this host, and from every store."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dbkeep.backup.log.slices import Slice, local_keys, read_slice
from dbkeep.backup.manifest import Part, RecoveryPoint, read_sets
from dbkeep.backup.points import Point, point_keys, read_points
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.stores.copies import local_parts, parts_of
from dbkeep.backup.stores.store import open_store
from dbkeep.errors import DbkeepError

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Reach:
    """What of one engine's log one place can restore: from a set on, as far as it goes without a gap."""

    sets: tuple[str, ...]
    runs: tuple[tuple[str, str], ...]

    def holds(self, point: RecoveryPoint) -> bool:
        """Say whether a set is before `point` and the log reaches from there to it."""
        index = bisect_right(self.sets, point.place)
        if not index:
            return False
        after = self.sets[index - 1]
        return any(began <= after and point.place <= ended for began, ended in self.runs)


@dataclass(frozen=True, slots=True)
class Place:
    """What a place can restore of each engine, and the keys of the points it has: None where it has all."""

    reaches: Mapping[str, Reach]
    points: Collection[str] | None = None

    def restores(self, point: Point) -> bool:
        """Say whether the place has the point and brings every one of its engines there."""
        if self.points is not None and point.key not in self.points:
            return False
        return all(e in self.reaches and self.reaches[e].holds(fence) for e, fence in point.fences.items())


def reach(parts: Iterable[Part], slices: Iterable[Slice]) -> Reach:
    """Return what the parts and slices of one engine, the latter oldest first, can restore."""
    runs: list[tuple[str, str]] = []
    last: str | None = None
    for found in slices:
        if runs and not found.begins_chain and found.first == last:
            runs[-1] = (runs[-1][0], found.name)
        else:
            runs.append((found.start, found.name))
        last = found.last
    return Reach(tuple(sorted(part.recovery_point.place for part in parts)), tuple(runs))


def points_catalog(host: BackupHost, last: int | None = None) -> dict[str, Any]:
    """Return this host's points, oldest first, each with the places from where every one of its engines is restorable.

    With `last` only so many of the newest: of the log no more is read than they need. `all` says how many there are.
    `errors` has a line for every record that is damaged and every store that does not answer.
    """
    errors: list[str] = []
    parts = [p for found in read_sets(host.sets, host.settings.signing_keys, errors) for p in found.values()]
    every = read_points(host, errors)
    points = every[-last:] if last else every
    since = _since(parts, points)
    slices = {engine: _slices(host, engine, since.get(engine), errors) for engine in host.engines}
    places = {LOCAL: Place(_reaches(host, parts, slices, set(local_parts(host)), None))}
    for settings in host.settings.stores:
        try:
            keys = open_store(host, settings.name).sizes("")
            places[settings.name] = Place(_reaches(host, parts, slices, parts_of(keys), keys), point_keys(keys))
        except DbkeepError as error:
            errors.append(str(error))
    rows = []
    for point in points:
        sources = [name for name, place in places.items() if place.restores(point)]
        rows.append(point.model_dump(mode="json") | {"at": point.at.isoformat(), "restorable_from": sources})
    return {"points": rows, "all": len(every), "errors": errors}


def _since(parts: Iterable[Part], points: Sequence[Point]) -> dict[str, str]:
    """Return from which place on the log of each engine matters to the points: its newest set before the first one."""
    oldest: dict[str, str] = {}
    for part in sorted(parts, key=lambda part: part.recovery_point.place):
        first = points[0].fences.get(part.engine) if points else None
        if not points or part.engine not in oldest or (first and part.recovery_point.place <= first.place):
            oldest[part.engine] = part.recovery_point.place
    return oldest


def _slices(host: BackupHost, engine: str, since: str | None, errors: list[str]) -> list[Slice]:
    """Return the slices of an engine that end at `since` or later, oldest first; why one is not goes to `errors`."""
    repository = host.settings.repository
    found = []
    for key in local_keys(repository, engine):
        if since is None or PurePosixPath(key).stem >= since:
            try:
                found.append(read_slice(repository, key, host.settings.signing_keys))
            except DbkeepError as error:
                errors.append(str(error))
    return found


def _reaches(
    host: BackupHost,
    parts: Iterable[Part],
    slices: Mapping[str, list[Slice]],
    held: set[Name],
    keys: Mapping[str, int] | None,
) -> dict[str, Reach]:
    """Return what a place can restore that holds the parts `held` and, but for the host itself, the files `keys`."""
    there = [part for part in parts if (part.set_id, part.engine) in held]
    return {
        engine: reach(
            (part for part in there if part.engine == engine),
            (found for found in slices[engine] if keys is None or _is_in(found, keys)),
        )
        for engine in host.engines
    }


def _is_in(found: Slice, keys: Mapping[str, int]) -> bool:
    return found.key in keys and all(keys.get(stored.name) == stored.size for stored in found.stored_files())
