"""Drills a part of Redis: its dump loaded by a throw-away server, then compared.

Keys whose time has come since the save do not load; the server counts them, so the sum is still exact.
"""

from __future__ import annotations

from pathlib import Path

from dbkeep.backup.drill import Proof
from dbkeep.backup.manifest import Part
from dbkeep.backup.redis import dump_digest, instance_counts
from dbkeep.backup.restore_redis import open_part
from dbkeep.backup.settings import BackupHost
from dbkeep.redis.connect import connect
from dbkeep.redis.server import server as server_of
from dbkeep.sandbox import redis as sandbox


def drill(host: BackupHost, part: Part, identity: str, folder: Path, proof: Proof) -> None:
    """Decrypt, check the dump's own checksum, load and compare keys and functions."""
    server = host.with_redis()[1].server
    dump = open_part(host.sets / part.set_id / part.engine, part, identity, folder, server)
    name = part.details["instance"]
    with dump.open("rb") as stream:
        proof.digests("dump", part.digests, {name: dump_digest(stream)})
    with sandbox.start(folder / "server", {name: {"appendonly": "no"}}, data={name: dump}, server=server) as copy:
        with connect(name, copy.instances[name]) as client:
            proof.restored(server_of(client.info("server")).short)
            state = client.info("persistence")
            loaded, expired = int(state["rdb_last_load_keys_loaded"]), int(state["rdb_last_load_keys_expired"])
            what = f"keys loaded, {expired} having expired since"
            proof.that(what, part.details["keys"], loaded, loaded + expired == part.details["keys"])
            proof.equal("function libraries", part.details["functions"], len(client.function_list()))
        counts = instance_counts(copy, name)
        for prefix, count in part.counts.items():
            found = counts.get(prefix, 0)
            proof.that(f"keys of {prefix}, less those expired", str(count), found, found <= count.high)
        proof.equal("keyspaces beside the manifest's", [], sorted(counts.keys() - part.counts.keys()))
