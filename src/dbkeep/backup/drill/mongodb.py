"""Drills a part of MongoDB: its archive loaded into a throw-away replica set, then compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bson import Timestamp

from dbkeep.backup.drill.copy import Copy, Serving
from dbkeep.backup.drill.proof import Proof
from dbkeep.backup.manifest import Part
from dbkeep.backup.mongodb import collection_digests, list_collections, shape
from dbkeep.backup.restore.mongodb import load, open_part
from dbkeep.backup.restore.replay_mongodb import carry_on
from dbkeep.backup.restore.target import Chosen
from dbkeep.backup.settings import BackupHost
from dbkeep.mongodb.bootstrap import subject
from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.prove.server import AS_CONFIGURED, spelt
from dbkeep.sandbox import mongodb as sandbox

# Documents past their date would leave the copy before they are counted.
PARAMETERS = {"ttlMonitorEnabled": "false"}


@contextmanager
def copied(host: BackupHost, one: Chosen, identity: str, serving: Serving, proof: Proof) -> Iterator[Copy]:
    """Decrypt and load into a server with access control and TLS: from the first moment nobody else can log on."""
    part, database = one.part, host.with_mongodb()[1].database
    replay = carry_on(host, part, identity, serving.folder, one.point)
    security = serving.authority.mongodb()
    declared = serving.claimed.declared.server.parameters if serving.claimed else ()
    with (
        open_part(host.sets / part.set_id / part.engine, part, identity, serving.folder) as stream,
        sandbox.start(
            serving.folder / "server",
            security=security,
            parameters={**{parameter.name: spelt(parameter.value) for parameter in declared}, **PARAMETERS},
            options=AS_CONFIGURED,
        ) as started,
    ):
        copy = started.model_copy(update={"database": database})
        with connect(copy) as client:
            load(client, stream, database, part.files[0].name, replay)
            proof.restored(str(client.server_info()["version"]))
        _compare_end(one, replay.last, proof)
        yield Copy(copy, {"mongodb": copy.port}, serving)


def _compare_end(one: Chosen, last: Timestamp | None, proof: Proof) -> None:
    """The last entry that was replayed is the fence of the point, or it is not later than the time."""
    if one.point is None:
        return
    # With nothing replayed the copy is at the set's own point.
    ended = f"{last.time}.{last.inc}" if last else one.part.recovery_point.name
    if one.point.name:
        proof.equal("cluster time of the last entry that was replayed", one.point.name, ended)
    elif last:
        what = f"cluster time of the last entry that was replayed, not after {one.point.at.isoformat()}"
        proof.that(what, f"{one.point.at.timestamp():.0f} or less", ended, last.time <= one.point.at.timestamp())


def inspect(host: BackupHost, copy: Copy, proof: Proof) -> None:
    """Compare collections with their indexes, by the server's own rules."""
    database = host.with_mongodb()[1].database
    with connect(copy.settings) as client:
        for collection in list_collections(client, database):
            if collection.kind != "view":
                _validate(client, database, collection.name, proof)


def compare(host: BackupHost, part: Part, copy: Copy, proof: Proof) -> None:
    """Compare documents, validators, indexes, users and roles with the manifest."""
    database = host.with_mongodb()[1].database
    with connect(copy.settings) as client:
        collections = list_collections(client, database)
        stored = [collection.name for collection in collections if collection.kind != "view"]
        observed = {f"{database}.{name}": client[database][name].count_documents({}) for name in stored}
        proof.counts("documents", part.counts, observed)
        proof.digests("documents", part.digests, collection_digests(client, collections))
        expected, found = part.details["shape"], shape(collections)
        for name in sorted(expected.keys() | found.keys()):
            proof.equal(f"validator, options and indexes of {name}", expected.get(name), found.get(name))
        proof.equal("users", part.details["users"], _users(client, copy, part))
        proof.equal("roles", part.details["roles"], client.admin["system.roles"].count_documents({}))


def _users(client: Client, copy: Copy, part: Part) -> int:
    """Return how many users the archive brought: the copy's own administrator counts when the source had one too."""
    number = client.admin["system.users"].count_documents({})
    own = f"$external.{subject(copy.settings.certificate_key_file)}"
    brought = part.details["users"] == number or client.admin["system.users"].count_documents({"_id": own}) == 0
    return number if brought else number - 1


def _validate(client: Client, database: str, name: str, proof: Proof) -> None:
    """MongoDB manual, validate: a collection's structure, and that its indexes have what its documents say."""
    said: dict[str, Any] = client[database].command({"validate": name})
    wrong = [str(line) for line in (*said.get("errors", ()), *said.get("warnings", ()))]
    proof.that(f"what validate finds in {name}", [], wrong[:3], bool(said["valid"]) and not wrong)
