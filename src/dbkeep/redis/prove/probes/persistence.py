"""P52 and P53: what of an instance comes back after a kill or a stop, and what stays on disk?"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import redis

from dbkeep.prove.probe import Finding, Note, require
from dbkeep.redis.declared import Loss
from dbkeep.redis.prove.attempts import attempt
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK
from dbkeep.redis.prove.world import World

SOURCES = ("Redis manual: Persistence", "redis/keyspaces.yml: loss", "RD-PER-01", "RD-PER-03")
WRITE_SECONDS, MOST_LOST_SECONDS = 1.5, 1.0
LIFETIME = "600"


@probe("P52", "A kill under load loses at most one second of acknowledged writes of what must survive",
       area="pressure", sources=SOURCES, live=False)  # fmt: skip
def killed(world: World) -> Iterator[Finding | Note]:
    """A kill ends the server, not the machine: what the server handed over to the kernel is written all the same."""
    for prefix, instance in _prefixes(world, Loss.MUST_SURVIVE_RESTART):
        with world.throw_away.renewed() as other:
            acknowledged: list[float] = []
            writer = threading.Thread(target=_write, args=(other.admin(instance), prefix, acknowledged), daemon=True)
            writer.start()
            time.sleep(WRITE_SECONDS)
            with other.throw_away.ended(instance, signal.SIGKILL) as client:
                writer.join()
                require(len(acknowledged) > 100, f"{instance}: only {len(acknowledged)} writes were acknowledged")
                lost = [
                    when
                    for number, when in enumerate(acknowledged)
                    if attempt(client, "GET", _name(prefix, number)).answer != str(number)
                ]
            seconds = acknowledged[-1] - min(lost) if lost else 0.0
            if seconds > MOST_LOST_SECONDS:
                yield Finding("(server)", instance, f"a kill loses {seconds:.2f} s of acknowledged writes")
            yield Note(f"{instance}: {len(lost)} of {len(acknowledged)} acknowledged writes lost, {seconds:.2f} s")


def _name(prefix: str, number: int) -> str:
    return f"{prefix}{MARK}:{number}"


def _write(client: redis.Redis, prefix: str, acknowledged: list[float]) -> None:
    """Write one key after the other until the server is gone, and keep when each was acknowledged."""
    while attempt(client, "SET", _name(prefix, len(acknowledged)), str(len(acknowledged)), "EX", LIFETIME).answered:
        acknowledged.append(time.monotonic())


@probe("P53", "After a stop what must survive is there, and what may be lost left nothing on disk", area="pressure",
       sources=SOURCES, live=False)  # fmt: skip
def stopped(world: World) -> Iterator[Finding]:
    with world.throw_away.renewed() as other:
        for prefix, instance in _prefixes(other, Loss.MUST_SURVIVE_RESTART):
            attempt(other.admin(instance), "SET", _name(prefix, 1), "1", "EX", LIFETIME)
            with other.throw_away.ended(instance, signal.SIGTERM) as client:
                if attempt(client, "GET", _name(prefix, 1)).answer != "1":
                    yield Finding("(server)", instance, "a key that must survive a restart is gone")
        for prefix, instance in _prefixes(other, Loss.MAY_BE_LOST):
            attempt(other.admin(instance), "SET", _name(prefix, 1), "1", "EX", LIFETIME)
            folder = other.throw_away.settings.instances[instance].socket.parent
            with other.throw_away.ended(instance, signal.SIGTERM) as client:
                left = [path.name for path in folder.rglob("*") if path.suffix in (".rdb", ".aof", ".base", ".incr")]
                if left or attempt(client, "DBSIZE").answer:
                    yield Finding("(server)", instance, f"leaves its keys on disk: {', '.join(left)}")


def _prefixes(world: World, loss: Loss) -> list[tuple[str, str]]:
    """Return one prefix of each instance that holds keys of that loss class."""
    found = {
        keyspace.instance: keyspace.prefix for keyspace in world.declared.keyspaces.keyspaces if keyspace.loss is loss
    }
    return [(prefix, instance) for instance, prefix in found.items()]
