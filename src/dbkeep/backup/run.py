"""One backup run on this host: prepare every engine, fence all at once, collect each part, prune."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeVar, cast

from dbkeep.backup.job import Fence, Job, Progress
from dbkeep.backup.lock import BusyError, hold
from dbkeep.backup.log.slices import newest_place, prune_slices
from dbkeep.backup.manifest import (
    FILE_NAME,
    Part,
    part_engines,
    read_sets,
    set_id_of,
    set_ids,
    time_of,
    write_part,
)
from dbkeep.backup.points import prune_points
from dbkeep.backup.recovery_point import set_fences
from dbkeep.backup.retention import expired_sets
from dbkeep.backup.sealed_file import read_recipients
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.signature import check_key
from dbkeep.backup.stores.copies import copy_all
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now, record, write

T = TypeVar("T")
LOCK = ".lock"
FAILED = "FAILED"
# The service that ships the logs may be taking a set of an engine whose log was lost: a timer's run waits for that, so
# that nobody is woken.
PATIENCE_SECONDS = 600


class EngineBackup(Protocol):
    """What dbkeep.backup.postgresql, .mongodb and .redis each offer."""

    def prepare(self, job: Job) -> None: ...
    def fence(self, job: Job) -> Fence: ...
    def collect(self, job: Job, point: Fence) -> Part: ...


def engine_backup(name: str) -> EngineBackup:
    return cast(EngineBackup, import_module(f"dbkeep.backup.{name}"))


def run(
    host: BackupHost, set_id: str | None, engines: Sequence[str] | None = None, *, progress: Progress = lambda _: None
) -> list[Part]:
    """Back up `engines` (all of this host without any) as set `set_id` and return the parts.

    Without `set_id` it is the present slot's, the same on every host; an engine that has its part of it already is left
    out. An engine that fails leaves no part behind and does not stop the others. Then the stores get what they lack.

    Raises DbkeepError naming every engine and store that failed, after the others are done; UsageError when a named set
    already has such a part; BusyError while another run holds the repository, which that of the present slot waits ten
    minutes for.
    """
    read_recipients(host.settings.recipients)
    check_key(host.settings.signing_key_file, host.settings.signing_keys)
    chosen = host.chosen(tuple(engines or ()))
    slot = set_id is None
    set_id = set_id or set_id_of(now(), host.settings.slot_minutes)
    time_of(set_id)
    host.sets.mkdir(mode=0o700, parents=True, exist_ok=True)
    patience = PATIENCE_SECONDS if slot else 0
    with hold(host.settings.repository / LOCK, f"backup of set {set_id}", patience=patience):
        remove_unfinished(host.sets)
        there = set(part_engines(host.sets, set_id)) & set(chosen)
        if there and not slot:
            raise UsageError(f"set {set_id} already has {', '.join(sorted(there))}; take another set id")
        wanted = [engine for engine in chosen if engine not in there]
        for engine in sorted(there):
            progress(f"{engine}: set {set_id} is already complete")
        parts, failed = _take(host, set_id, wanted, progress) if wanted else ([], [])
        if not failed:
            prune(host, progress)
    # What is complete goes off the host also when something else failed.
    try:
        copy_all(host, progress=progress)
    except DbkeepError as error:
        failed.append(str(error))
    if failed:
        raise DbkeepError("; ".join(failed))
    (host.settings.repository / FAILED).unlink(missing_ok=True)
    return parts


def _take(host: BackupHost, set_id: str, engines: Sequence[str], progress: Progress) -> tuple[list[Part], list[str]]:
    """Return the parts that are complete, and what failed."""
    started = now()
    (host.sets / set_id).mkdir(mode=0o700, exist_ok=True)
    jobs = {engine: Job(host, set_id, engine, host.sets / set_id / engine, progress) for engine in engines}
    attempts = Attempts(progress)
    try:
        parts = _collect(jobs, attempts)
    finally:
        for job in jobs.values():
            if not (job.folder / FILE_NAME).exists():
                shutil.rmtree(job.folder, ignore_errors=True)
    observed = {
        "set_id": set_id,
        "parts": {part.engine: {"stored_bytes": part.stored_bytes, "seconds": part.seconds} for part in parts},
        "failed": attempts.failed,
    }
    evidence = record("backup", started=started, passed=not attempts.failed, observed=observed)
    # On a full disk this fails as well, and must not hide what failed before it.
    attempts("evidence", partial(write, evidence, host.settings.evidence))
    if attempts.failed:
        reasons = "; ".join(f"{engine}: {reason}" for engine, reason in attempts.failed.items())
        complete = ", ".join(part.engine for part in parts) or "nothing"
        return parts, [f"backup set {set_id}: {reasons} ({complete} is complete)"]
    return parts, []


class Attempts:
    """Runs steps of engines; one that fails is left out from then on and does not stop the others."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.failed: dict[str, str] = {}

    def __call__(self, engine: str, step: Callable[[], T]) -> T | None:
        """Return what `step` returns, or None when it raises DbkeepError or the disk refuses (OSError)."""
        try:
            return step()
        except (DbkeepError, OSError) as error:
            self.failed[engine] = str(error)
            self._progress(f"{engine}: FAILED: {error}")
            return None


def _collect(jobs: dict[str, Job], attempts: Attempts) -> list[Part]:
    backups = {engine: engine_backup(engine) for engine in jobs}
    for engine, job in jobs.items():
        job.progress(f"{engine}: preparing")
        job.folder.mkdir(mode=0o700)
        attempts(engine, partial(backups[engine].prepare, job))
        job.logged = newest_place(job.settings.repository, engine)
    setters = {
        engine: partial(attempts, engine, partial(backups[engine].fence, job))
        for engine, job in jobs.items()
        if engine not in attempts.failed
    }
    parts = []
    for engine, point in set_fences(setters).items():
        job = jobs[engine]
        part = attempts(engine, partial(_complete, backups[engine], job, point)) if point else None
        if part:
            parts.append(part)
            job.progress(f"{engine}: {part.stored_bytes} bytes stored in {part.seconds:.1f} s")
    return parts


def _complete(backup: EngineBackup, job: Job, point: Fence) -> Part:
    part = backup.collect(job, point)
    write_part(job.folder, part, job.settings.signing_key_file)
    return part


def remove_unfinished(sets: Path) -> None:
    """Remove what a killed run left: part folders without a manifest. The caller holds the repository's lock."""
    for set_id in set_ids(sets):
        for folder in (sets / set_id).iterdir():
            if folder.is_dir() and not (folder / FILE_NAME).exists():
                shutil.rmtree(folder)
        if not any((sets / set_id).iterdir()):
            (sets / set_id).rmdir()


def prune(host: BackupHost, progress: Progress) -> list[str]:
    """Remove the sets that retention lets go and return their ids; a set in use by a drill or check stays.

    pgBackRest keeps its backups for as many days as retention may keep a set (repo1-retention-full-type=time).
    """
    ids = expired_sets(host, set_ids(host.sets))
    removed = []
    for set_id in ids:
        try:
            with hold(host.sets / set_id / LOCK, "retention"):
                shutil.rmtree(host.sets / set_id)
        except BusyError:
            progress(f"set {set_id} is in use and stays until the next run")
            continue
        progress(f"set {set_id} removed: retention lets it go")
        removed.append(set_id)
    if removed and host.settings.postgresql:
        from dbkeep.backup.postgresql_engine import engine_here  # noqa: PLC0415 - hosts without it do not load its driver

        engine_here(host).expire(host)
    prune_points(host)
    _prune_log(host)
    return removed


def _prune_log(host: BackupHost) -> None:
    """Let go the slices before the oldest set of their engine, unless a damaged manifest hides which one that is."""
    damaged: list[str] = []
    sets = read_sets(host.sets, host.settings.signing_keys, damaged)
    for engine in host.engines:
        places = [parts[engine].recovery_point.place for parts in sets if engine in parts]
        if places and not damaged:
            prune_slices(host.settings.repository, engine, min(places))
