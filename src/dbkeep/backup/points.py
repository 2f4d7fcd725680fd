"""Recovery points: every few minutes a fence is set in all engines at once, which a restore can go back to by name.

A point is one small record a host, points/NAME.HOST.json below the repository and under the same key in the stores.
It costs no copy of anything: what a restore to it needs is a set before it and the engines' logs since.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from typing import Protocol, cast

from dbkeep.backup.clock import after_at
from dbkeep.backup.job import Fence, Progress, Ready, at_once
from dbkeep.backup.lock import hold
from dbkeep.backup.log.slices import newest_place
from dbkeep.backup.manifest import Part, RecoveryPoint, read_sets, set_id_of, time_of
from dbkeep.backup.recovery_point import Gate, set_fences
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.signed_record import SignedRecord, parse_signed
from dbkeep.backup.stores.store import DirectoryStore, Store
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now
from dbkeep.files import write_atomically

FOLDER = "points"
LOCK = ".points.lock"
FORMAT = 1
# Hosts whose timers go off together have started and connected by then, and set their fences at that moment.
LEAD = timedelta(seconds=5)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_KEY = re.compile(rf"{FOLDER}/({_NAME.pattern})\.[^/]+\.json")


class EngineMark(Protocol):
    """What dbkeep.backup.postgresql, .mongodb and .redis each offer."""

    def mark(self, host: BackupHost, name: str, ready: Ready = at_once) -> Fence:
        """Connect, call `ready`, set a fence that a restore can go to, and return it."""


class Point(SignedRecord):
    """One host's record of a point. Every fence was set after `began_at` and not later than its own moment.

    `skew_seconds` is that window: the data of the engines may differ by the writes in it, never by more.
    """

    format: int = FORMAT
    name: str
    host: str
    began_at: datetime
    skew_seconds: float
    fences: dict[str, RecoveryPoint]

    @property
    def at(self) -> datetime:
        return max(fence.at for fence in self.fences.values())

    @property
    def place(self) -> str:
        """What sorts points as they were set, whatever the clock."""
        return max(fence.place for fence in self.fences.values())

    @property
    def key(self) -> str:
        """The record's path below the repository, and its key in a store."""
        return f"{FOLDER}/{self.name}.{self.host}.json"


def check_name(name: str) -> str:
    """Return `name`; raises UsageError when a point cannot have it."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a point's name: 1 to 40 letters, digits, - and _")
    return name


def mark(
    host: BackupHost,
    name: str | None = None,
    engines: Sequence[str] | None = None,
    *,
    at: datetime | None = None,
    progress: Progress = lambda _: None,
) -> Point:
    """Set a fence in `engines` (all of this host without any) at once, at the moment `at` if given, and record it.

    Without `name` it is the present slot's, the same on every host, and one that is there already is returned.
    An engine that fails does not stop the others: the point holds for those.

    Raises DbkeepError naming the engines that failed, UsageError for a name that is taken or cannot be one, BusyError
    while another point is being set or a restore runs.
    """
    slot = name is None
    name = check_name(name or set_id_of(now(), host.settings.point_minutes))
    chosen = host.chosen(tuple(engines or ()))
    host.settings.repository.mkdir(mode=0o711, parents=True, exist_ok=True)
    with hold(host.settings.repository / LOCK, f"point {name}"):
        there = find_points(host, name)
        if there and slot:
            progress(f"point {name} is there already")
            return there[0]
        if there:
            raise UsageError(f"point {name} is there already; take another name")
        return _mark(host, name, chosen, at or (time_of(name) + LEAD if slot else None))


def _mark(host: BackupHost, name: str, engines: Sequence[str], at: datetime | None) -> Point:
    gate = Gate(len(engines), at)
    # A fence without a record, left by a kill, must not be taken for this one.
    label = f"dbkeep_{name}_{secrets.token_hex(4)}"
    failed: dict[str, str] = {}

    def fence(engine: str) -> Fence | None:
        try:
            return cast(EngineMark, import_module(f"dbkeep.backup.{engine}")).mark(host, label, gate.wait)
        except DbkeepError as error:
            gate.give_up()
            failed[engine] = str(error)
            return None

    logged = {engine: newest_place(host.settings.repository, engine) for engine in engines}
    found = set_fences({engine: partial(fence, engine) for engine in engines})
    fences = {
        engine: RecoveryPoint(at=one.at, name=one.name, after=after_at(logged[engine], one.at))
        for engine, one in found.items()
        if one
    }
    reasons = "; ".join(f"{engine}: {reason}" for engine, reason in failed.items())
    if not fences or gate.began is None:
        raise DbkeepError(f"point {name} is not set: {reasons}")
    skew = (max(fence.at for fence in fences.values()) - gate.began).total_seconds()
    point = Point(
        name=name, host=socket.gethostname(), began_at=gate.began, skew_seconds=max(0.0, round(skew, 6)), fences=fences
    )
    write_point(host, point)
    if failed:
        raise DbkeepError(f"point {name}: {reasons} ({', '.join(fences)} have it)")
    return point


def write_point(host: BackupHost, point: Point) -> None:
    """Sign and write a point's record; from here on the point exists."""
    path = host.settings.repository / point.key
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, point.signed(host.settings.signing_key_file).render(), mode=0o600)


def parse_point(content: bytes, key: str, where: str, signing_keys: Sequence[str]) -> Point:
    """Return the point whose record was stored as `key`.

    Raises DbkeepError, naming `where`, when it is altered or no host of the environment signed it.
    """
    instead = "take another point (`dbkeep backup points`)"
    return parse_signed(Point, content, key, signing_keys, where=where, instead=instead)


def read_points(host: BackupHost, damaged: list[str] | None = None) -> list[Point]:
    """Return the points in the repository, oldest first. One that is damaged is left out; why goes to `damaged`."""
    found, keys = [], host.settings.signing_keys
    for path in (host.settings.repository / FOLDER).glob("*.json"):
        try:
            found.append(parse_point(path.read_bytes(), f"{FOLDER}/{path.name}", str(path), keys))
        except DbkeepError as error:
            (damaged if damaged is not None else []).append(str(error))
    return sorted(found, key=lambda point: point.place)


def find_points(host: BackupHost, name: str, store: Store | None = None) -> list[Point]:
    """Return the records of point `name` in the repository or a store: one for each host that set it.

    Raises DbkeepError when one is damaged, or one in a store is not signed by a host of the environment, StoreError.
    """
    check_name(name)
    keys = host.settings.signing_keys
    if store is None:
        paths = (host.settings.repository / FOLDER).glob(f"{name}.*.json")
        return [parse_point(path.read_bytes(), f"{FOLDER}/{path.name}", str(path), keys) for path in sorted(paths)]
    there = point_keys(store.sizes(f"{FOLDER}/"))
    return [read_copy(store, key, keys) for key in sorted(there) if key.startswith(f"{FOLDER}/{name}.")]


def point_keys(keys: Iterable[str]) -> set[str]:
    """Return those of a store's keys that are points."""
    return {key for key in keys if _KEY.fullmatch(key)}


def read_copy(store: Store, key: str, signing_keys: Sequence[str]) -> Point:
    """Return the point under a key of a store; raises StoreError when it is not there, DbkeepError when damaged."""
    content = io.BytesIO()
    store.get(key, content)
    return parse_point(content.getvalue(), key, f"store {store.name}: {key}", signing_keys)


def fences_of(points: Iterable[Point], engines: Collection[str], name: str) -> dict[str, RecoveryPoint]:
    """Return the fence of every engine from the hosts' records of one point.

    Raises UsageError when the point, or its fence in an engine, does not exist.
    """
    fences = {engine: fence for point in points for engine, fence in point.fences.items()}
    if not fences:
        raise UsageError(f"there is no point {name}; see `dbkeep backup points`")
    missing = [engine for engine in engines if engine not in fences]
    if missing:
        raise UsageError(f"point {name} was not set in {', '.join(missing)}, only in {', '.join(sorted(fences))}")
    return {engine: fences[engine] for engine in engines}


def prune_points(host: BackupHost) -> list[str]:
    """Remove the points that no set of this host is before, and return their names.

    None is removed without a set, or when a damaged manifest hides which one is the oldest.
    """
    damaged: list[str] = []
    found = read_sets(host.sets, host.settings.signing_keys, damaged)
    oldest = oldest_places(part for parts in found for part in parts.values())
    if damaged:
        return []
    gone = [point for point in read_points(host) if _is_before(point, oldest)]
    for point in gone:
        (host.settings.repository / point.key).unlink(missing_ok=True)
    return [point.name for point in gone]


def oldest_places(parts: Iterable[Part]) -> dict[str, str]:
    """Return the place of the oldest part of every engine."""
    found: dict[str, str] = {}
    for part in parts:
        found[part.engine] = min(found.get(part.engine, part.recovery_point.place), part.recovery_point.place)
    return found


def _is_before(point: Point, oldest: Mapping[str, str]) -> bool:
    """Say whether a point is before the oldest part of each of its engines, of which one at least has any."""
    before = [fence.place < oldest[engine] for engine, fence in point.fences.items() if engine in oldest]
    return bool(before) and all(before)


def copy_points(host: BackupHost, store: Store, there: Collection[str]) -> list[str]:
    """Bring a store the points of this host that are not `there`, the newest names first; return the keys sent.

    Raises StoreError, DbkeepError when a record here is damaged: damage is never copied.
    """
    sent = []
    for path in sorted((host.settings.repository / FOLDER).glob("*.json"), reverse=True):
        key = f"{FOLDER}/{path.name}"
        if key not in there:
            content = path.read_bytes()
            parse_point(content, key, str(path), host.settings.signing_keys)
            store.put(key, path, hashlib.sha256(content).hexdigest())
            sent.append(key)
    return sent


def prune_copies(host: BackupHost, store: DirectoryStore, oldest: Mapping[str, str]) -> list[str]:
    """Remove the points before `oldest`, the places of the oldest parts there, from a directory; return their keys."""
    keys = host.settings.signing_keys
    gone = [key for key in point_keys(store.sizes(f"{FOLDER}/")) if _is_before(read_copy(store, key, keys), oldest)]
    for key in gone:
        store.remove(key)
    return gone
