"""Loads a mongodump archive into a server, and puts a part of MongoDB back in place of the live data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from dbkeep.backup.archive_format import Collection, Namespace, Reader
from dbkeep.backup.job import Progress
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.restore.oplog_operations import TEMPORARY
from dbkeep.backup.restore.replay_mongodb import carry_on, expiry_paused
from dbkeep.backup.restore.safety_copy import set_aside
from dbkeep.backup.restore.service import Service
from dbkeep.backup.sealed_file import inflate, unseal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import Client, address, connect, hello
from dbkeep.settings import MongoDBSettings

START_SECONDS = 120


def open_part(folder: Path, part: Part, identity: str, workspace: Path) -> BinaryIO:
    """Check and decrypt the part's archive into `workspace` and open it. Raises DbkeepError when it is damaged."""
    target = workspace / "dump.archive.zst"
    unseal(folder, part.files[0], target, identity)
    return inflate(target)


def load(
    client: Client,
    stream: BinaryIO,
    database: str,
    name: str,
    replay: Callable[[Client], None] = lambda _: None,
) -> dict[str, int]:
    """Load an archive's collections of `database`, and its users and roles, into an empty server.

    Indexes are built after the data; views are made last. Documents pass the validators as they are: they were live.
    `replay` (see `carry_on`) brings all of it to a later moment before the accounts come into force.
    Returns the documents loaded per collection. Raises DbkeepError when the archive or the server refuses.
    """
    reader = Reader(stream, name)
    own = [c for c in reader.collections if c.database == database]
    for collection in own:
        if collection.kind != "view":
            client[database].command({"create": collection.name, **collection.options})
    for temporary in TEMPORARY.values():
        client.admin.drop_collection(temporary)
    counts: dict[str, int] = {f"{database}.{c.name}": 0 for c in own if c.kind != "view"}
    for namespace, documents in reader.batches():
        target = _target(namespace, database)
        if target is not None:
            _insert(client, target, documents)
            if namespace[0] == database:
                counts[".".join(namespace)] += len(documents)
    for collection in own:
        _finish(client, collection)
    replay(client)
    _merge_accounts(client)
    return counts


def _target(namespace: Namespace, database: str) -> Namespace | None:
    source, collection = namespace
    if source == database:
        return namespace
    if source == "admin" and collection in TEMPORARY:
        return ("admin", TEMPORARY[collection])
    return None


def _insert(client: Client, target: Namespace, documents: list[bytes]) -> None:
    database, collection = target
    reply = client[database].command(
        {
            "insert": collection,
            "documents": [RawBSONDocument(document) for document in documents],
            "ordered": False,
            "bypassDocumentValidation": True,
            # Not waiting for the journal each time: the accounts, which come last, wait for all before them.
            "writeConcern": {"w": 1},
        }
    )
    errors = reply.get("writeErrors")
    if errors:
        raise DbkeepError(f"mongodb {database}.{collection}: {len(errors)} documents refused: {errors[0]['errmsg']}")


def _finish(client: Client, collection: Collection) -> None:
    database = client[collection.database]
    if collection.kind == "view":
        database.command({"create": collection.name, **collection.options})
        return
    indexes = [index for index in collection.indexes if index["name"] != "_id_"]
    if indexes:
        database.command({"createIndexes": collection.name, "indexes": indexes})


def _merge_accounts(client: Client) -> None:
    client.admin.command(
        {
            "_mergeAuthzCollections": 1,
            "tempUsersCollection": f"admin.{TEMPORARY['system.users']}",
            "tempRolesCollection": f"admin.{TEMPORARY['system.roles']}",
            "db": "",
            # Accounts of the new server that the archive does not have stay: the host administrator is one of them.
            "drop": False,
            "writeConcern": {"w": "majority"},
        }
    )
    for temporary in TEMPORARY.values():
        client.admin.drop_collection(temporary)


def live_counts(host: BackupHost) -> dict[str, int]:
    """Return the documents of every collection now. Raises UsageError when the server does not answer."""
    engine = host.with_mongodb()[1]
    with connect(engine) as client:
        database = client[engine.database]
        names = [c["name"] for c in database.list_collections() if c["type"] == "collection"]
        return {
            f"{database.name}.{name}": database[name].count_documents({})
            for name in sorted(names)
            if not name.startswith("system.")
        }


def replace(
    host: BackupHost,
    part: Part,
    identity: str,
    service: Service,
    progress: Progress,
    *,
    target: RecoveryPoint | None = None,
) -> dict[str, Any]:
    """Restore the part into a new data directory of the live server and return what is there now.

    With `target` the log is replayed up to it: to the cluster time that is its name, or else to its time.

    Raises DbkeepError when a step fails or the replica set has other members; the data is then as it was.
    """
    settings, engine = host.with_mongodb()
    members = _members(host, part)
    if len(members) > 1:
        raise DbkeepError(
            f"mongodb: the replica set has {len(members)} members, which would copy the old data back; "
            "before the restore take the others out of the inventory and run dbkeep apply mongodb --allow-destructive"
        )
    folder = host.sets / part.set_id / part.engine
    with tempfile.TemporaryDirectory(dir=host.settings.drill_directory) as workspace:
        replay = carry_on(host, part, identity, Path(workspace), target, progress=progress)
        with (
            open_part(folder, part, identity, Path(workspace)) as stream,
            set_aside(settings.data_directory, service, settings.os_user) as safety,
        ):
            service.start()
            _wait_until_it_answers(engine)
            bootstrap.apply(engine, members, settings.keyfile)
            bootstrap.set_later_term(engine, settings.keyfile)
            service.stop()
            service.start()
            _wait_until_it_answers(engine)
            bootstrap.wait_for_primary(engine)
            progress("mongodb: loading the archive into a new data directory")
            with connect(engine) as client, expiry_paused(client):
                load(client, stream, engine.database, part.files[0].name, replay)
    return {"safety_copy": str(safety) if safety else None, "counts": live_counts(host)}


def _wait_until_it_answers(engine: MongoDBSettings) -> None:
    """A service counts as started before its server listens, and one that lays out new files takes its time."""
    deadline = time.monotonic() + START_SECONDS
    while not hello(engine, 1000):
        if time.monotonic() > deadline:
            raise DbkeepError(
                f"mongod at {address(engine)} did not answer within {START_SECONDS} s of its start; read its log"
            )


def _members(host: BackupHost, part: Part) -> list[str]:
    engine = host.with_mongodb()[1]
    try:
        with connect(engine) as client:
            configuration = client.admin.command("replSetGetConfig")["config"]
            return [str(member["host"]) for member in configuration["members"]]
    except (DbkeepError, PyMongoError):
        # What the inventory names goes before what the set knows: it may be the set of another host.
        return [*engine.members] or [str(member) for member in part.details["members"]] or [address(engine)]
