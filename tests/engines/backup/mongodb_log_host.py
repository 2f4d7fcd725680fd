"""A host that has MongoDB only, with access control: its sets, its log, and throw-away servers that both restore to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyrage

from dbkeep.backup.log.mongodb import cut
from dbkeep.backup.log.slices import Slice, newest_slice
from dbkeep.backup.manifest import Part, RecoveryPoint, set_id_of
from dbkeep.backup.restore.mongodb import load, open_part
from dbkeep.backup.restore.replay_mongodb import carry_on
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, MongoDBBackup
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox.mongodb import Security

from .conftest import SandboxService, backup_settings

IDENTITY = str(pyrage.x25519.Identity.generate())


@contextmanager
def mongodb_host(folder: Path, security: Security | None = None) -> Iterator[BackupHost]:
    """A host that has MongoDB only, with an oplog of the sandbox's 128 MB; SERVICES has what stops and starts it."""
    service = SandboxService(lambda: sandbox.start(folder / "mongo", security=security, initiate=False, cache_gb=0.5))
    service.start()
    try:
        sandbox._initiate(service.settings, security)
        settings = backup_settings(
            folder,
            IDENTITY,
            mongodb=MongoDBBackup(
                data_directory=folder / "mongo" / "data",
                service="mongod",
                keyfile=security.keyfile if security else None,
                os_user="root",
            ),
        )
        for path in (settings.repository, settings.drill_directory):
            path.mkdir(mode=0o711)
        SERVICES[folder] = service
        yield BackupHost(settings, mongodb=service.settings)
    finally:
        service.stop()


SERVICES: dict[Path, SandboxService] = {}


def take(host: BackupHost) -> Part:
    time.sleep(1)  # a set's id has whole seconds
    (part,) = run(host, set_id_of(datetime.now(UTC)), ["mongodb"])
    return part


def ship(host: BackupHost) -> list[Slice]:
    return cut(host, newest_slice(host.settings.repository, "mongodb", host.settings.signing_keys))


@contextmanager
def restored(host: BackupHost, part: Part, target: RecoveryPoint, folder: Path) -> Iterator[Client]:
    """A throw-away server that has the part and the log up to the target."""
    with (
        open_part(host.sets / part.set_id / "mongodb", part, IDENTITY, folder) as stream,
        sandbox.start(folder / "copy", unix_socket=True, parameters={"ttlMonitorEnabled": "false"}) as copy,
        connect(copy) as client,
    ):
        load(client, stream, "chat", "dump", carry_on(host, part, IDENTITY, folder, target))
        yield client


def to(position: str) -> RecoveryPoint:
    return RecoveryPoint(at=datetime.now(UTC), name=position)


def documents_and_indexes(client: Client) -> None:
    database = client["chat"]
    strict = {"$jsonSchema": {"required": ["n"]}}
    database.create_collection("shaped", validator=strict)
    database["shaped"].insert_many([{"_id": n, "n": n, "tags": [1, 2]} for n in range(200)])
    database["shaped"].create_index([("n", -1)], name="by_n", unique=True)
    database["shaped"].create_index("tags", name="gone")
    database["shaped"].update_many({"n": {"$lt": 50}}, {"$push": {"tags": 3}, "$unset": {"x": 1}})
    database["shaped"].drop_index("gone")
    database.command({"collMod": "shaped", "validator": {"n": {"$gte": 0}}, "validationLevel": "moderate"})
    database.command({"collMod": "shaped", "index": {"name": "by_n", "hidden": True}})
    # The validator of later would refuse it: validators are for writers, not for a replay.
    database.command({"collMod": "shaped", "validator": {"n": {"$lt": 1}}, "validationLevel": "strict"})
    database["expiring"].create_index("at", expireAfterSeconds=0)
    database["expiring"].insert_one({"_id": 1, "at": datetime(2090, 1, 1, tzinfo=UTC)})
