"""Asks every store of the host to show that it answers and keeps what is locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dbkeep.backup.settings import BackupHost, S3StoreSettings, StoreSettings
from dbkeep.backup.stores.store import open_store
from dbkeep.errors import DbkeepError

if TYPE_CHECKING:
    from dbkeep.backup.stores.s3 import S3Store


def prove_stores(host: BackupHost, *, prepare: bool = False) -> list[dict[str, Any]]:
    """Return a row for every store; its `faults` are empty when it answers and, with locks, refuses to delete.

    With `prepare` buckets are made, or get versions and object lock, first: `prepared` says what was done.
    """
    return [_prove(host, settings, prepare=prepare) for settings in host.settings.stores]


def _prove(host: BackupHost, settings: StoreSettings, *, prepare: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"name": settings.name, "off_host": settings.off_host, "locked": False}
    row |= {"prepared": [], "faults": []}
    try:
        store = open_store(host, settings.name)
        if not isinstance(settings, S3StoreSettings) or not settings.lock_days:
            store.sizes("sets/")
            return row
        from dbkeep.backup.stores import object_lock  # noqa: PLC0415 - hosts without such a store do not load boto3

        if prepare:
            row["prepared"] = object_lock.prepare(cast("S3Store", store), host.settings)
        row["faults"] = object_lock.prove(cast("S3Store", store))["faults"]
        row["locked"] = not row["faults"]
    except DbkeepError as error:
        row["faults"] = [str(error)]
    return row
