"""Puts engines of this host at a set, a point or a time: first the plan (what is replaced and lost), then the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.log.slices import LOCK as SHIP_LOCK
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.points import LOCK as POINTS_LOCK
from dbkeep.backup.restore.fetch import fetched
from dbkeep.backup.restore.received import source_of
from dbkeep.backup.restore.safety_copy import NotedService, unfinished
from dbkeep.backup.restore.service import Service, SystemdService
from dbkeep.backup.restore.target import Choice, Chosen, Target, choose
from dbkeep.backup.restore.versions import refuse_newer
from dbkeep.backup.run import LOCK
from dbkeep.backup.sealed_file import read_identities
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.verify import verify_part, verify_slices
from dbkeep.errors import DbkeepError
from dbkeep.evidence import now, record, write

SHIP_SECONDS = 120


class EngineRestore(Protocol):
    """What dbkeep.backup.restore.postgresql, mongodb and redis each offer.

    `replace` goes to `target`, which is after the part's own recovery point, or to that one without a target.
    """

    def live_counts(self, host: BackupHost) -> dict[str, int]: ...
    def replace(
        self,
        host: BackupHost,
        part: Part,
        identity: str,
        service: Service,
        progress: Progress,
        *,
        target: RecoveryPoint | None = None,
    ) -> dict[str, Any]: ...


def engine_restore(name: str) -> EngineRestore:
    return cast(EngineRestore, import_module(f"dbkeep.backup.restore.{name}"))


def _replace(
    host: BackupHost,
    chosen: Mapping[str, Chosen],
    identity: str,
    services: Mapping[str, Service],
    progress: Progress,
) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for engine, one in chosen.items():
        progress(f"{engine}: checking the stored bytes of set {one.part.set_id}")
        problems = verify_part(host, one.part) + verify_slices(host, one.slices)
        if problems:
            raise DbkeepError(f"{engine}: set {one.part.set_id} is damaged: {problems[0]}; nothing was changed")
    for engine, one in chosen.items():
        settings = getattr(host.settings, engine)
        service = NotedService(services.get(engine) or SystemdService(settings.service), settings.data_directory)
        try:
            work = engine_restore(engine).replace
            done[engine] = work(host, one.part, identity, service, progress, target=one.point)
        except (DbkeepError, OSError) as error:
            before = f"; already restored: {', '.join(done)}" if done else ""
            raise DbkeepError(f"{error}; {engine} is as it was{before}") from None
        done[engine] |= {
            "set_id": one.part.set_id,
            "slices": len(one.slices),
            "recovery_point": one.at.isoformat(),
        }
        progress(f"{engine}: restored to {one.at.isoformat()}")
    return done


def plan(
    host: BackupHost,
    target: Target | str,
    engines: Sequence[str] | None = None,
    store: str = LOCAL,
    source: str = "",
) -> dict[str, Any]:
    """Return what a restore to `target` (or to the set of that id) would replace and lose: what was written since.

    `source` is the host whose data it would be, when that is not this one's own.

    `live` is None for an engine that does not answer: then nothing can be said about it. `unfinished` is where the
    live data lies that an interrupted restore had set aside: the next one keeps that, not what it left.
    """
    with source_of(host, source, store) as reading:
        choice = _choose(reading, _target(target), host.chosen(tuple(engines or ())), store)
    rows = []
    for engine, one in choice.engines.items():
        settings = getattr(host.settings, engine)
        aside = unfinished(settings.data_directory)
        rows.append(
            {
                "engine": engine,
                "set_id": one.part.set_id,
                "slices": len(one.slices),
                "recovery_point": one.at.isoformat(),
                "lost_seconds": round((now() - one.at).total_seconds()),
                "replaces": str(settings.data_directory),
                "unfinished": str(aside) if aside else None,
                "service": settings.service,
                "in_set": {name: str(count) for name, count in one.part.counts.items()},
                "live": _live(host, engine),
            }
        )
    return {
        "parts": rows,
        "began": choice.began.isoformat(),
        "at": choice.at.isoformat(),
        "skew_seconds": choice.skew_seconds,
    }


def _choose(host: BackupHost, target: Target, engines: tuple[str, ...], store: str) -> Choice:
    choice = choose(host, target, engines, store)
    for one in choice.engines.values():
        refuse_newer(host, one.part)
    return choice


def _target(target: Target | str) -> Target:
    return Target(target) if isinstance(target, str) else target


def _live(host: BackupHost, engine: str) -> dict[str, int] | None:
    try:
        return engine_restore(engine).live_counts(host)
    except DbkeepError:
        return None


def restore(
    host: BackupHost,
    target: Target | str,
    engines: Sequence[str] | None,
    identity: str,
    *,
    store: str = LOCAL,
    source: str = "",
    progress: Progress = lambda _: None,
    services: Mapping[str, Service] | None = None,
) -> dict[str, Any]:
    """Put the engines at `target` (a string is the id of a set), from the host or a store, and return evidence of it.

    Every part is checked before the first service stops. The data that was there stays beside its directory; a part
    that fails is rolled back to it and ends the restore, earlier parts stay restored and are named in the error.
    With `source` it is the data of that host: what it sent, or what is in the stores that this host may read.

    Raises DbkeepError, UsageError for a missing part, a wrong identity or an engine that is too old, BusyError while a
    backup, another restore or the setting of a point runs.
    """
    read_identities(identity)
    target, wanted = _target(target), host.chosen(tuple(engines or ()))
    started = now()
    host.settings.drill_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    host.settings.repository.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (
        hold(host.settings.repository / LOCK, f"restore to {target}"),
        hold(host.settings.repository / POINTS_LOCK, f"restore to {target}"),
        # What is loaded is not a log to ship; a round that runs ends soon.
        hold(host.settings.repository / SHIP_LOCK, f"restore to {target}", patience=SHIP_SECONDS),
        source_of(host, source, store) as reading,
    ):
        choice = _choose(reading, target, wanted, store)
        with fetched(reading, store, choice.engines, progress) as stored:
            done = _replace(stored, choice.engines, identity, services or {}, progress)
    observed = {
        "target": str(target),
        "set_id": max(one.part.set_id for one in choice.engines.values()),
        "store": store,
        **({"source": source} if source else {}),
        "began": choice.began.isoformat(),
        "at": choice.at.isoformat(),
        "skew_seconds": choice.skew_seconds,
        "engines": done,
    }
    evidence = record("restore", started=started, passed=True, observed=observed)
    write(evidence, host.settings.evidence)
    return evidence
