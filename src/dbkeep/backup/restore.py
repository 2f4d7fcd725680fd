"""Restores parts of a set on this host: first the plan (what is replaced and lost), then the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from dbkeep.backup.copies import newest_copy, read_copy
from dbkeep.backup.fetch import fetched
from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.manifest import NEWEST, Part, newest, read_part
from dbkeep.backup.recovery_point import skew_seconds
from dbkeep.backup.run import LOCK
from dbkeep.backup.sealed_file import read_identities
from dbkeep.backup.service import Service, SystemdService
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.store import open_store
from dbkeep.backup.verify import verify_part
from dbkeep.errors import DbkeepError
from dbkeep.evidence import now, record, write


class EngineRestore(Protocol):
    """What dbkeep.backup.restore_postgresql, restore_mongodb and restore_redis each offer."""

    def live_counts(self, host: BackupHost) -> dict[str, int]: ...
    def replace(
        self, host: BackupHost, part: Part, identity: str, service: Service, progress: Progress
    ) -> dict[str, Any]: ...


def engine_restore(name: str) -> EngineRestore:
    return cast(EngineRestore, import_module(f"dbkeep.backup.restore_{name}"))


def _replace(
    host: BackupHost, parts: Mapping[str, Part], identity: str, services: Mapping[str, Service], progress: Progress
) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for engine, part in parts.items():
        progress(f"{engine}: checking the stored bytes of set {part.set_id}")
        problems = verify_part(host, part)
        if problems:
            raise DbkeepError(f"{engine}: set {part.set_id} is damaged: {problems[0]}; nothing was changed")
    for engine, part in parts.items():
        service = services.get(engine) or SystemdService(getattr(host.settings, engine).service)
        try:
            done[engine] = engine_restore(engine).replace(host, part, identity, service, progress)
        except DbkeepError as error:
            before = f"; already restored: {', '.join(done)}" if done else ""
            raise DbkeepError(f"{error}; {engine} is as it was{before}") from None
        done[engine]["recovery_point"] = part.recovery_point.at.isoformat()
        progress(f"{engine}: restored to {part.recovery_point.at.isoformat()}")
    return done


def find(host: BackupHost, set_id: str, engines: tuple[str, ...], store: str) -> dict[str, Part]:
    """Return the parts of a set as `resolve` does, of this host or of a store."""
    if store == LOCAL:
        return resolve(host, set_id, engines)
    there = open_store(host, store)
    if set_id == NEWEST:
        set_id = newest_copy(there, engines, host.settings.signing_keys)
    return {engine: read_copy(there, set_id, engine, host.settings.signing_keys) for engine in engines}


def resolve(host: BackupHost, set_id: str, engines: tuple[str, ...]) -> dict[str, Part]:
    """Return the parts of a set, or of the newest complete one for `newest`; raises UsageError when one is missing."""
    if set_id == NEWEST:
        set_id = newest(host.sets, engines, host.settings.signing_keys)
    return {engine: read_part(host.sets, set_id, engine, host.settings.signing_keys) for engine in engines}


def plan(host: BackupHost, set_id: str, engines: Sequence[str] | None = None, store: str = LOCAL) -> dict[str, Any]:
    """Return what a restore would replace and what would be lost: everything written since the recovery point.

    `live` is None for an engine that does not answer: then nothing can be said about it.
    """
    parts = find(host, set_id, host.chosen(tuple(engines or ())), store)
    rows = []
    for engine, part in parts.items():
        rows.append(
            {
                "engine": engine,
                "set_id": part.set_id,
                "recovery_point": part.recovery_point.at.isoformat(),
                "lost_seconds": round((now() - part.recovery_point.at).total_seconds()),
                "replaces": str(getattr(host.settings, engine).data_directory),
                "service": getattr(host.settings, engine).service,
                "in_set": {name: str(count) for name, count in part.counts.items()},
                "live": _live(host, engine),
            }
        )
    moments = [part.recovery_point.at for part in parts.values()]
    return {"parts": rows, "skew_seconds": skew_seconds(moments)}


def _live(host: BackupHost, engine: str) -> dict[str, int] | None:
    try:
        return engine_restore(engine).live_counts(host)
    except DbkeepError:
        return None


def restore(
    host: BackupHost,
    set_id: str,
    engines: Sequence[str] | None,
    identity: str,
    *,
    store: str = LOCAL,
    progress: Progress = lambda _: None,
    services: Mapping[str, Service] | None = None,
) -> dict[str, Any]:
    """Put the parts of a set, from the host or a store, in place of the live data and return evidence of it.

    Every part is checked before the first service stops. The data that was there stays beside its directory; a part
    that fails is rolled back to it and ends the restore, earlier parts stay restored and are named in the error.

    Raises DbkeepError, UsageError for a missing part or a wrong identity, BusyError while a backup runs.
    """
    read_identities(identity)
    chosen = host.chosen(tuple(engines or ()))
    started = now()
    host.settings.drill_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    host.settings.repository.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (
        hold(host.settings.repository / LOCK, f"restore of set {set_id}"),
        fetched(host, store, set_id, chosen, progress) as source,
    ):
        parts = resolve(source, set_id, chosen)
        done = _replace(source, parts, identity, services or {}, progress)
    observed = {"set_id": next(iter(parts.values())).set_id, "store": store, "engines": done}
    evidence = record("restore", started=started, passed=True, observed=observed)
    write(evidence, host.settings.evidence)
    return evidence
