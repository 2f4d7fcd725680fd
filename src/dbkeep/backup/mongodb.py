"""MongoDB: everything of the database and its users and roles at one cluster time, as a mongodump archive.

Reads are snapshot reads at an explicit cluster time, so no writer is blocked and no collection is from another moment
(MongoDB manual, "Read Concern snapshot"). Documents pass as raw BSON, never decoded, a batch at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from typing import Any

from bson import Binary, Timestamp, json_util
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from dbkeep.backup.archive_format import Collection, NamespaceWriter, prelude
from dbkeep.backup.interrupted_dump import CollectionGoneError, passing_reason, require_same_shape, require_there
from dbkeep.backup.job import Fence, Job, Ready, at_once
from dbkeep.backup.log.mongodb import note, position_of, timestamp
from dbkeep.backup.manifest import Count, Part, StoredFile
from dbkeep.backup.raw_reply import RAW, cut
from dbkeep.backup.sealed_file import seal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.bootstrap import wait_for_primary
from dbkeep.mongodb.connect import Client, Document, connect

FILE_NAME = "dump.archive.zst.age"
ACCOUNTS = ("system.users", "system.roles", "system.version")
BATCH_DOCUMENTS = 10_000
SNAPSHOT_TOO_OLD = 239
ATTEMPTS = 3


@dataclass
class Dump:
    """One dump: `chunks` is the archive, `counts` and `digests` fill while it is read."""

    client: Client
    database: str
    at: Timestamp
    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    collections: list[Collection] = field(default_factory=list)

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; raises OperationFailure of the server, DbkeepError for what cannot be dumped."""
        self.collections = list_collections(self.client, self.database)
        require_same_shape(self.client, self.database, self.at)
        server = self.client.server_info()["version"]
        admin = [Collection("admin", name, "collection", {}, ()) for name in ACCOUNTS]
        yield prelude(
            [*admin, *self.collections], server_version=server, tool_version=f"dbkeep {package_version('dbkeep')}"
        )
        with self.client.start_session(causal_consistency=False) as session:
            for collection in admin:
                yield from self._collection(session, collection, None)
            for collection in self.collections:
                if collection.kind != "view":
                    # The server has no snapshot reads of capped collections: they are as they are when they are read.
                    at = None if collection.options.get("capped") else self.at
                    yield from self._collection(session, collection, at)
                    require_there(self.client, collection)

    def _collection(self, session: ClientSession, collection: Collection, at: Timestamp | None) -> Iterator[bytes]:
        writer = NamespaceWriter(collection.namespace)
        yield writer.start()
        count, digest = 0, hashlib.sha256()
        for documents, number in _batches(self.client, session, collection, at):
            count += number
            digest.update(documents)
            yield writer.add(documents)
        yield writer.end()
        name = f"{collection.database}.{collection.name}"
        self.counts[name], self.digests[name] = count, f"sha256:{digest.hexdigest()}"


def _batches(
    client: Client, session: ClientSession, collection: Collection, at: Timestamp | None
) -> Iterator[tuple[bytes, int]]:
    # The accounts are read without a snapshot: the server has none for the admin database.
    concern: Document = {"level": "snapshot", "atClusterTime": at} if at else {"level": "local"}
    database = client[collection.database]
    command: Document = {
        "find": collection.name,
        "sort": {"$natural": 1},
        "batchSize": BATCH_DOCUMENTS,
        "readConcern": concern,
    }
    while True:
        reply = database.command(command, session=session, codec_options=RAW)
        cursor = reply["cursor"]
        cursor_id, documents, number = cut(bytes(cursor.raw))
        if number:
            yield documents, number
        if not cursor_id:
            return
        command = {"getMore": cursor_id, "collection": collection.name, "batchSize": BATCH_DOCUMENTS}


def collection_digests(client: Client, collections: list[Collection]) -> dict[str, str]:
    """Return the digest of the documents of each collection in its own order, as a dump makes it on the way.

    A collection that was filled in that order, and not written to since, has the same digest.
    """
    found = {}
    with client.start_session(causal_consistency=False) as session:
        for collection in collections:
            if collection.kind != "view":
                digest = hashlib.sha256()
                for documents, _ in _batches(client, session, collection, None):
                    digest.update(documents)
                found[f"{collection.database}.{collection.name}"] = f"sha256:{digest.hexdigest()}"
    return found


def list_collections(client: Client, database: str) -> list[Collection]:
    """Return the collections and views of a database with their options and indexes, by name.

    Raises DbkeepError for a time series collection, which this dump does not carry.
    """
    found = []
    for info in client[database].list_collections():
        name = info["name"]
        if name.startswith("system."):
            continue
        if info["type"] == "timeseries":
            raise DbkeepError(f"mongodb {database}.{name}: time series collections are not backed up; use mongodump")
        indexes = [] if info["type"] == "view" else [dict(i) for i in client[database][name].list_indexes()]
        uuid = info.get("info", {}).get("uuid")
        found.append(
            Collection(
                database=database,
                name=name,
                kind=info["type"],
                options=dict(info.get("options", {})),
                indexes=tuple(indexes),
                uuid=bytes(uuid).hex() if isinstance(uuid, Binary | bytes) else getattr(uuid, "hex", ""),
            )
        )
    return sorted(found, key=lambda c: c.name)


def shape(collections: list[Collection]) -> dict[str, Any]:
    """Return options and indexes of collections as plain JSON, to compare two servers."""
    options = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED)
    return {
        c.name: {
            "kind": c.kind,
            "options": json_util.dumps(c.options, json_options=options, sort_keys=True),
            "indexes": sorted(json_util.dumps(_index(i), json_options=options, sort_keys=True) for i in c.indexes),
        }
        for c in collections
    }


def _index(index: dict[str, Any]) -> dict[str, Any]:
    # The order of an index's keys is part of it, and sort_keys would lose it.
    return {**index, "key": [[name, direction] for name, direction in index["key"].items()]}


def prepare(job: Job) -> None:
    """Refuse early what the dump would only fail on later. Raises UsageError when the server is not usable."""
    with connect(job.host.with_mongodb()[1]) as client:
        job.facts["version"] = client.server_info()["version"]
        configuration = client.admin.command("replSetGetConfig")["config"]
        job.facts["members"] = [member["host"] for member in configuration["members"]]


def fence(job: Job) -> Fence:
    """Put the set's name into the oplog with majority write concern; its operation time is the recovery point."""
    return mark(job.host, job.set_id)


def mark(host: BackupHost, name: str, ready: Ready = at_once) -> Fence:
    """Put `name` into the oplog with majority write concern; its operation time is the engine's name of the moment.

    `ready` is called when all is connected, just before.
    """
    with connect(host.with_mongodb()[1]) as client:
        ready()
        return Fence(name=position_of(note(client, {"dbkeep": name})), at=datetime.now(UTC))


def collect(job: Job, point: Fence) -> Part:
    """Dump at the fence's cluster time into the job's folder and return the part.

    A dump that a drop or another primary interrupts is taken again at a new time, a few times.
    Raises DbkeepError when that does not help, and when the server's history does not reach back.
    """
    settings = job.host.with_mongodb()[1]
    with connect(settings) as client:
        for attempt in range(1, ATTEMPTS + 1):
            dump = Dump(client, settings.database, timestamp(point.name))
            try:
                stored = seal(dump.chunks(), job.folder / FILE_NAME, job.settings.recipients)
                break
            except (PyMongoError, CollectionGoneError) as error:
                reason = _why_again(error)
                if attempt == ATTEMPTS:
                    raise DbkeepError(
                        f"mongodb: {ATTEMPTS} dumps were interrupted, the last because {reason}; "
                        "run the backup again when the server is at rest"
                    ) from None
                job.progress(f"mongodb: {reason} during the dump; once more at a new time")
                wait_for_primary(settings)
                point = fence(job)
    return _part(job, point, dump, stored)


def _why_again(error: PyMongoError | CollectionGoneError) -> str:
    """Return why a new dump may do better. Raises the error itself, or DbkeepError, when it cannot."""
    if isinstance(error, OperationFailure) and error.code == SNAPSHOT_TOO_OLD:
        raise DbkeepError(
            "mongodb: the dump took longer than the server keeps history; "
            "raise minSnapshotHistoryWindowInSeconds above the duration of a dump"
        ) from None
    reason = passing_reason(error)
    if reason is None:
        raise error
    return reason


def _part(job: Job, point: Fence, dump: Dump, stored: StoredFile) -> Part:
    own = {name: count for name, count in dump.counts.items() if name.startswith(f"{dump.database}.")}
    digests = {name: dump.digests[name] for name in sorted(own)}
    return job.part(
        point,
        server_version=job.facts["version"],
        stored_bytes=stored.size,
        files=(stored,),
        counts=Count.exact(own),
        digests=digests,
        shape=shape(dump.collections),
        tools={"archive": "mongodump 0.1"},
        details={
            "members": job.facts["members"],
            "users": dump.counts["admin.system.users"],
            "roles": dump.counts["admin.system.roles"],
        },
    )
