"""Drills a part of MongoDB: its archive loaded into a throw-away replica set, then compared."""

from __future__ import annotations

from pathlib import Path

from dbkeep.backup.drill import Proof
from dbkeep.backup.manifest import Part
from dbkeep.backup.mongodb import collection_digests, list_collections, shape
from dbkeep.backup.restore_mongodb import load, open_part
from dbkeep.backup.settings import BackupHost
from dbkeep.mongodb.connect import connect
from dbkeep.sandbox import mongodb as sandbox

# Documents past their date would leave the copy before they are counted.
PARAMETERS = {"ttlMonitorEnabled": "false"}


def drill(host: BackupHost, part: Part, identity: str, folder: Path, proof: Proof) -> None:
    """Decrypt, load and compare documents, indexes, validators, users and roles."""
    database = host.with_mongodb()[1].database
    with (
        open_part(host.sets / part.set_id / part.engine, part, identity, folder) as stream,
        sandbox.start(folder / "server", unix_socket=True, parameters=PARAMETERS) as copy,
        connect(copy) as client,
    ):
        load(client, stream, database, part.files[0].name)
        proof.restored(str(client.server_info()["version"]))
        collections = list_collections(client, database)
        observed = {
            f"{database}.{c.name}": client[database][c.name].count_documents({})
            for c in collections
            if c.kind != "view"
        }
        proof.counts("documents", part.counts, observed)
        proof.digests("documents", part.digests, collection_digests(client, collections))
        expected, found = part.details["shape"], shape(collections)
        for name in sorted(expected.keys() | found.keys()):
            proof.equal(f"validator, options and indexes of {name}", expected.get(name), found.get(name))
        proof.equal("users", part.details["users"], client.admin["system.users"].count_documents({}))
        proof.equal("roles", part.details["roles"], client.admin["system.roles"].count_documents({}))
