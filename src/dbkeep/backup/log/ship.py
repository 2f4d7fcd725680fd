"""Ships the engines' logs: a round cuts what every engine wrote since its newest slice and copies it to every store.

A round that fails in one engine or store does the others, says so once, and the next round catches up.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from dbkeep.backup.job import Progress
from dbkeep.backup.lock import BusyError, hold
from dbkeep.backup.log.slice_copies import Settled, copy_slices
from dbkeep.backup.log.slices import LOCK, Slice, local_keys, log_folder, newest_slice, read_slice
from dbkeep.backup.manifest import read_sets, set_id_of
from dbkeep.backup.points import FOLDER as POINTS
from dbkeep.backup.points import copy_points
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.store import Store, open_store
from dbkeep.errors import DbkeepError
from dbkeep.evidence import now
from dbkeep.files import write_atomically

# How the journal tells an alert from other lines (sd-daemon(3)).
ALERT = "<1>" if "JOURNAL_STREAM" in os.environ else ""
STATE = "ship.json"
SET_RETRY_SECONDS = 600


class EngineLog(Protocol):
    """What dbkeep.backup.log.postgresql, mongodb and redis each offer."""

    def cut(self, host: BackupHost, newest: Slice | None) -> list[Slice]:
        """Seal what was written since `newest` and return the new slices, already on disk."""


@dataclass
class Shipper:
    """What one process knows from round to round. Slow stores and a new set hold up no cut: each has a thread."""

    host: BackupHost
    progress: Progress = lambda _: None
    _said: dict[str, str] = field(default_factory=dict)
    _looked: set[str] = field(default_factory=set)
    _lost: set[str] = field(default_factory=set)
    _set_again: float = 0
    _stores: dict[str, Store] = field(default_factory=dict)
    _settled: Settled = field(default_factory=set)
    _points: dict[str, set[str]] = field(default_factory=dict)
    _running: dict[str, Future[Any]] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=ThreadPoolExecutor)

    def round(self, patience: float | None = None) -> dict[str, str]:
        """Cut and copy once, and return what failed, by `engine NAME` and `store NAME`.

        Copies that take longer than `patience` seconds go on into the next rounds.
        Raises BusyError while another round or a restore runs: then nothing was done.
        """
        repository = self.host.settings.repository
        repository.mkdir(mode=0o711, parents=True, exist_ok=True)
        faults: dict[str, str] = {}
        with hold(repository / LOCK, "shipping the logs"):
            for engine in self.host.engines:
                _attempt(faults, f"engine {engine}", partial(self._cut, engine))
        for settings in self.host.settings.stores:
            if f"store {settings.name}" not in self._running:
                self._running[f"store {settings.name}"] = self._pool.submit(self._copy, settings.name)
        copies = {what: copy for what, copy in self._running.items() if what.startswith("store ")}
        wait(copies.values(), patience)
        for what, copy in copies.items():
            if copy.done():
                _attempt(faults, what, self._running.pop(what).result)
            elif what in self._said:
                faults[what] = self._said[what]
        self._report(faults)
        return faults

    def finish(self) -> None:
        """Wait for what rounds started."""
        self._pool.shutdown()

    def _cut(self, engine: str) -> None:
        log = cast(EngineLog, import_module(f"dbkeep.backup.log.{engine}"))
        newest = newest_slice(self.host.settings.repository, engine, self.host.settings.signing_keys)
        made = log.cut(self.host, newest)
        if newest and made and made[0].after == newest.name:
            self.progress(
                f"{ALERT}engine {engine}: WARNING: the clock was set back from {newest.ended_at.isoformat()} to "
                f"{made[0].ended_at.isoformat()}: points are restored on, times after that from the next set on"
            )
        if engine not in self._looked or engine in self._lost or any("lost" in found.details for found in made):
            self._look_for_loss(engine)
            self._looked.add(engine)

    def _look_for_loss(self, engine: str) -> None:
        """Raise DbkeepError while the log was lost after the newest set, and see to it that a set is taken."""
        lost = lost_since_newest_set(self.host, engine)
        what = f"set of {engine}"
        running = self._running.get(what)
        if not lost:
            self._lost.discard(engine)
            self._running.pop(what, None)
            return
        self._lost.add(engine)
        state = "a new set is being taken"
        if running is None and time.monotonic() >= self._set_again:
            self.progress(f"engine {engine}: taking a new set, because its log was lost")
            self._running[what] = self._pool.submit(run, self.host, set_id_of(now()), [engine])
        elif running is not None and running.done() and (error := running.exception()):
            del self._running[what]
            self._set_again = 0 if isinstance(error, BusyError) else time.monotonic() + SET_RETRY_SECONDS
            state = f"the new set failed: {error}"
        raise DbkeepError(f"{lost}; {state}")

    def _copy(self, name: str) -> None:
        if name not in self._stores:
            store = open_store(self.host, name)
            store.discard_unfinished(tuple(log_folder(engine) for engine in self.host.engines))
            self._stores[name] = store
        store = self._stores[name]
        copy_slices(self.host, store, self._settled)
        held = self._points.setdefault(name, set(store.sizes(f"{POINTS}/")))
        held.update(copy_points(self.host, store, held))

    def _report(self, faults: dict[str, str]) -> None:
        for what, fault in faults.items():
            if self._said.get(what) != fault:
                self.progress(f"{ALERT}{what}: FAILED: {fault}")
        for what in self._said.keys() - faults.keys():
            self.progress(f"{what}: works again")
        self._said = faults
        state = {"at": now().isoformat(), "faults": faults}
        _attempt(faults, "state", partial(_write_state, self.host.settings.repository / STATE, state))


def _write_state(path: Path, state: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(state, indent=2) + "\n", mode=0o600)


def _attempt(faults: dict[str, str], what: str, step: Callable[[], object]) -> None:
    try:
        step()
    except (DbkeepError, OSError) as error:
        faults[what] = str(error)


def lost_since_newest_set(host: BackupHost, engine: str) -> str | None:
    """Return why the log after the newest set of an engine is not continuous, None when it is or there is no set."""
    sets = [parts[engine] for parts in read_sets(host.sets, host.settings.signing_keys) if engine in parts]
    if not sets:
        return None
    newest = max(part.recovery_point.place for part in sets)
    repository = host.settings.repository
    first = f"{log_folder(engine)}/{newest}"
    for key in reversed([key for key in local_keys(repository, engine) if key >= first]):
        try:
            found = read_slice(repository, key, host.settings.signing_keys)
        except DbkeepError:
            continue  # verify names it
        if "lost" in found.details and found.start > newest:
            return str(found.details["lost"])
    return None


def ship(host: BackupHost, *, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Do one round, and return the newest slice of every engine.

    Raises DbkeepError naming every engine and store that failed, after the others are done; BusyError as a round does.
    """
    shipper = Shipper(host, progress)
    faults = shipper.round()
    shipper.finish()
    if faults:
        raise DbkeepError("; ".join(f"{what}: {fault}" for what, fault in faults.items()))
    newest = {
        engine: newest_slice(host.settings.repository, engine, host.settings.signing_keys) for engine in host.engines
    }
    return {engine: found.model_dump(mode="json") if found else None for engine, found in newest.items()}


def ship_every(host: BackupHost, seconds: float, stop: threading.Event, *, progress: Progress = lambda _: None) -> None:
    """Do a round every so many seconds until `stop` is set; what fails is said when that begins and when it ends."""
    shipper = Shipper(host, progress)
    due = time.monotonic()
    while not stop.is_set():
        # A restore replaces the data: the log goes on with the next round after it.
        with suppress(BusyError):
            shipper.round(patience=seconds / 2)
        due = max(due + seconds, time.monotonic())
        stop.wait(due - time.monotonic())
    shipper.finish()
