"""Drills a part of Redis: its dump loaded by a throw-away server, then compared.

Keys whose time has come since the save do not load; the server counts them, so the sum is still exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import redis

from dbkeep.backup.drill.copy import Copy, Serving
from dbkeep.backup.drill.proof import Proof
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.redis import MARKER, MARKER_SECONDS, dump_digest, instance_counts
from dbkeep.backup.restore.redis import open_part
from dbkeep.backup.restore.replay_redis import lay_out
from dbkeep.backup.restore.target import Chosen
from dbkeep.backup.settings import BackupHost
from dbkeep.evidence import now
from dbkeep.ports import free_ports
from dbkeep.redis.connect import connect
from dbkeep.redis.server import server as server_of
from dbkeep.redis.statements import directives
from dbkeep.sandbox import redis as sandbox

# With it a server that has a dump and no append-only file starts empty.
FROM_DUMP = {"appendonly": "no"}


@contextmanager
def copied(host: BackupHost, one: Chosen, identity: str, serving: Serving, proof: Proof) -> Iterator[Copy]:
    """Decrypt, check the dump's own checksum and load it, and what was logged after it up to the point of `one`.

    Instances that are not backed up start empty beside it.
    """
    part, live = one.part, host.with_redis()[1]
    dump = open_part(host.sets / part.set_id / part.engine, part, identity, serving.folder, live)
    name = part.details["instance"]
    with dump.open("rb") as stream:
        proof.digests("dump", part.digests, {name: dump_digest(stream)})
    ports = dict(zip(live.instances, free_ports(len(live.instances)), strict=True))
    files = serving.authority.issue("redis", ("redis", "nobody"))[:2]
    program = sandbox.find_program(live.server, live.command)
    wanted = {instance: dict(FROM_DUMP) for instance in ports}
    if serving.claimed:
        wanted = {
            instance: directives(serving.claimed.declared, instance, program.version, {}, live.memory_bytes) | FROM_DUMP
            for instance in ports
        }
    folder = serving.folder / "server"
    if one.point:
        lay_out(host, part, one.point, identity, dump=dump, data=folder / name)
        names = part.details["configuration"]
        wanted[name] |= {"appendonly": "yes", **{key: names[key] for key in ("appenddirname", "appendfilename")}}
    with sandbox.start(
        folder,
        wanted,
        data=None if one.point else {name: dump},
        tls={instance: sandbox.TLS(port, *files, serving.authority.file) for instance, port in ports.items()},
        memory_bytes=live.memory_bytes,
        program=program,
    ) as copy:
        with connect(name, copy.instances[name]) as client:
            proof.restored(server_of(client.info("server")).short)
            if one.point:
                _compare_end(client, one.point, proof)
        yield Copy(copy, {f"redis_{instance}": port for instance, port in ports.items()}, serving)


def _compare_end(client: redis.Redis, point: RecoveryPoint, proof: Proof) -> None:
    """The log was cut behind the point's marker, which is a key until it expires; a time leaves no trace."""
    if not point.name:
        proof.unproved("where the log ends: Redis keeps no trace of a time, only of a point")
        return
    if now() - point.at >= timedelta(seconds=MARKER_SECONDS):
        proof.unproved("where the log ends: the point's marker has expired since")
        return
    found = client.get(MARKER)
    observed = found.decode() if isinstance(found, bytes) else found
    proof.equal("marker of the point at the end of the log", point.name, observed)


def inspect(host: BackupHost, copy: Copy, proof: Proof) -> None:
    """Nothing: the server checked all of it when it loaded."""
    del host, copy, proof


def compare(host: BackupHost, part: Part, copy: Copy, proof: Proof) -> None:
    """Compare keys and functions with the manifest."""
    del host
    name = part.details["instance"]
    with connect(name, copy.settings.instances[name]) as client:
        state = client.info("persistence")
        loaded, expired = int(state["rdb_last_load_keys_loaded"]), int(state["rdb_last_load_keys_expired"])
        what = f"keys loaded, {expired} having expired since"
        proof.that(what, part.details["keys"], loaded, loaded + expired == part.details["keys"])
        proof.equal("function libraries", part.details["functions"], len(client.function_list()))
    if not part.counts and part.details["keys"]:
        proof.unproved("keyspaces have no counts: there were too many keys to count them; all keys are compared")
        return
    counts = instance_counts(copy.settings, name)
    for prefix, count in part.counts.items():
        found = counts.get(prefix, 0)
        proof.that(f"keys of {prefix}, less those expired", str(count), found, found <= count.high)
    # "changes" is of sets from before keys were sampled.
    unseen = part.details.get("unseen", part.details.get("changes", 0))
    beside = [prefix for prefix in sorted(counts.keys() - part.counts.keys()) if counts[prefix] > unseen]
    proof.equal("keyspaces beside the manifest's", [], beside)
