"""MongoDB's sides of `backup.py`: dump and load by dbkeep, and by the bare driver."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyrage
import zstandard
from bson import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import WriteConcern

from cost import Cost, cost_of
from dbkeep import mongodb
from dbkeep.backup.archive_format import Reader
from dbkeep.backup.manifest import Part, set_id_of
from dbkeep.backup.restore.mongodb import load, open_part
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, BackupSettings, MongoDBBackup
from dbkeep.environment import checkout
from dbkeep.evidence import now
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.secrets import age_recipient, new_password
from dbkeep.settings import MongoDBSettings
from mongodb_population import populate
from signing import signing

MESSAGES_OF_A_MEGABYTE = 2600
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
BATCH_DOCUMENTS = 10_000


@dataclass
class MongoDB:
    """A server as declared with messages, and what takes and restores its backups."""

    folder: Path
    host: BackupHost
    identity: str
    megabytes: int
    sets: int = 0

    @classmethod
    @contextmanager
    def start(cls, folder: Path, megabytes: int) -> Iterator[MongoDB]:
        identity = str(pyrage.x25519.Identity.generate())
        declared = mongodb.read_declared(checkout())
        passwords = {user: new_password() for user in mongodb.users(declared)}
        folder.mkdir(parents=True)
        with sandbox.start(folder / "server", cache_gb=1) as server:
            mongodb.apply(server, declared, passwords)
            with connect(server) as client:
                populate(client, megabytes * MESSAGES_OF_A_MEGABYTE)
                size = int(client["chat"].command("dbStats", scale=1_000_000)["dataSize"])
            settings = BackupSettings(
                repository=folder / "backup",
                evidence=folder / "evidence",
                drill_directory=folder / "drill",
                recipients=(age_recipient(identity),),
                **signing(folder),
                mongodb=MongoDBBackup(),
            )
            yield cls(folder, BackupHost(settings, mongodb=server), identity, size)

    @property
    def server(self) -> MongoDBSettings:
        return self.host.with_mongodb()[1]

    def take(self) -> Part:
        """Take a set."""
        self.sets += 1
        return run(self.host, set_id_of(now() + timedelta(seconds=self.sets)))[0]

    def run(self) -> Cost:
        with connect(self.server) as client:
            return cost_of(self.take, [_process(client)])

    def read_and_compress(self) -> Cost:
        """Read the replies that a dump reads, throw them away, and compress their bytes to nowhere."""
        with connect(self.server) as client:
            names = sorted(client["chat"].list_collection_names(filter={"type": "collection"}))

            def work() -> None:
                packing = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
                for name in names:
                    for reply in _replies(client, name):
                        packing.compress(reply)
                packing.flush()

            return cost_of(work, [_process(client)])

    def newest(self) -> tuple[Path, Part]:
        from dbkeep.backup.manifest import newest, read_part  # noqa: PLC0415

        set_id = newest(self.host.sets, ("mongodb",), self.host.settings.signing_keys)
        part = read_part(self.host.sets, set_id, "mongodb", self.host.settings.signing_keys)
        return self.host.sets / set_id / "mongodb", part

    def load(self) -> None:
        with _empty_server() as client:
            self._load(client)

    def _load(self, client: Client) -> None:
        folder, part = self.newest()
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as workspace,
            open_part(folder, part, self.identity, Path(workspace)) as stream,
        ):
            load(client, stream, "chat", part.files[0].name)

    def restore(self) -> Cost:
        with _empty_server() as client:
            return cost_of(lambda: self._load(client), [_process(client)])

    def insert(self) -> Cost:
        """Insert the same documents, which lie ready in memory, and build the same indexes after that."""
        folder, part = self.newest()
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as workspace,
            open_part(folder, part, self.identity, Path(workspace)) as stream,
        ):
            reader = Reader(stream, "dump")
            batches = [(namespace, documents) for namespace, documents in reader.batches() if namespace[0] == "chat"]
        collections = [c for c in reader.collections if c.database == "chat" and c.kind == "collection"]

        def work() -> None:
            for collection in collections:
                client["chat"].command({"create": collection.name, **collection.options})
            for (database, name), documents in batches:
                target = client[database].get_collection(name, write_concern=WriteConcern(w=1), codec_options=RAW)
                raw = [RawBSONDocument(document) for document in documents]
                target.insert_many(raw, ordered=False, bypass_document_validation=True)
            for collection in collections:
                indexes = [index for index in collection.indexes if index["name"] != "_id_"]
                if indexes:
                    client["chat"].command({"createIndexes": collection.name, "indexes": indexes})

        with _empty_server() as client:
            return cost_of(work, [_process(client)])


def _replies(client: Client, name: str) -> Iterator[bytes]:
    command: dict[str, Any] = {"find": name, "sort": {"$natural": 1}, "batchSize": BATCH_DOCUMENTS}
    with client.start_session() as session:
        while True:
            cursor = client["chat"].command(command, session=session, codec_options=RAW)["cursor"]
            yield bytes(cursor.raw)
            if not cursor["id"]:
                return
            command = {"getMore": cursor["id"], "collection": name, "batchSize": BATCH_DOCUMENTS}


def _process(client: Client) -> int:
    return int(client.admin.command("serverStatus")["pid"])


@contextmanager
def _empty_server() -> Iterator[Client]:
    with (
        tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name,
        sandbox.start(Path(name) / "server", cache_gb=1) as server,
        connect(server) as client,
    ):
        yield client
