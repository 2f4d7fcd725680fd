"""Retention on its own, between runs: what would go, or goes, from this host and from directories.

From a bucket the host may delete nothing; its lifecycle does (dbkeep.backup.stores.object_lock_policy).
"""

from __future__ import annotations

from typing import Any

from dbkeep.backup.job import Progress
from dbkeep.backup.lock import BusyError, hold
from dbkeep.backup.manifest import set_ids
from dbkeep.backup.retention import expired_sets
from dbkeep.backup.run import LOCK, prune
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.stores.copies import expired_copies, prune_copies
from dbkeep.backup.stores.store import DirectoryStore, open_store
from dbkeep.errors import DbkeepError


def prune_all(host: BackupHost, *, dry_run: bool = False, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Remove what retention lets go, and return the set ids by place; with `dry_run` nothing is removed.

    `by_lifecycle` names the stores that let sets go by themselves. Sets that are in use stay.

    Raises BusyError while a backup runs, DbkeepError naming each store that failed when the others are done.
    """
    host.sets.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold(host.settings.repository / LOCK, "retention"):
        removed = {LOCAL: _expired_here(host) if dry_run else prune(host, progress)}
    failed, by_lifecycle = [], []
    for settings in host.settings.stores:
        try:
            store = open_store(host, settings.name)
            if isinstance(store, DirectoryStore):
                removed[store.name] = _prune_directory(host, store, dry_run=dry_run)
            else:
                by_lifecycle.append(settings.name)
        except DbkeepError as error:
            failed.append(str(error))
    if failed:
        raise DbkeepError("; ".join(failed))
    return {"removed": removed, "by_lifecycle": by_lifecycle}


def _prune_directory(host: BackupHost, store: DirectoryStore, *, dry_run: bool) -> list[str]:
    with hold(host.settings.repository / f".{store.name}{LOCK}", "retention"):
        return expired_copies(host, store) if dry_run else prune_copies(host, store)


def _expired_here(host: BackupHost) -> list[str]:
    ids = set_ids(host.sets)
    return expired_sets(host, ids, [set_id for set_id in ids if _is_in_use(host, set_id)])


def _is_in_use(host: BackupHost, set_id: str) -> bool:
    try:
        with hold(host.sets / set_id / LOCK, "retention"):
            return False
    except BusyError:
        return True
