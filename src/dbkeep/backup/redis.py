"""Redis: the RDB snapshot of the instance that must survive; every other instance is declared as not backed up.

BGSAVE forks at the fence, so the dump is the state of that moment. Key totals come from redis-check-rdb reading the
very file that is stored.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import redis
from redis.exceptions import RedisError

from dbkeep.backup.job import Fence, Job, Ready, at_once
from dbkeep.backup.manifest import Count, Part
from dbkeep.backup.sealed_file import BLOCK, seal
from dbkeep.backup.settings import BackupHost
from dbkeep.engines import engine
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.connect import connect
from dbkeep.redis.server import server
from dbkeep.settings import RedisInstance, RedisServer, RedisSettings

FILE_NAME = "dump.rdb.zst.age"
MARKER = "dbkeep:point"
SAVE_SECONDS = 3600
CONFIGURATION = ("dir", "dbfilename", "appendonly", "appenddirname", "appendfilename")


def instance_counts(settings: RedisSettings, name: str) -> dict[str, int]:
    """Return the keys of one instance by keyspace prefix, as `state/sess:`."""
    alone = settings.model_copy(update={"instances": {name: settings.instances[name]}})
    return engine("redis").counts(alone)


def prepare(job: Job) -> None:
    """Look at the instance and wait for a save that runs already. Raises DbkeepError when that does not end."""
    with connect(*_instance(job)) as client:
        _wait_for_save(client)
        job.facts["version"] = server(_info(client, "server")).short
        configuration = cast(dict[str, str], client.config_get(*CONFIGURATION))
        job.facts["configuration"] = configuration
        job.facts["functions"] = len(client.function_list())
    job.facts["before"] = instance_counts(job.host.with_redis()[1], _instance(job)[0])


def fence(job: Job) -> Fence:
    """Start the save; its child process holds the state of this moment. Raises DbkeepError when it cannot start."""
    with connect(*_instance(job)) as client:
        job.facts["saves"] = int(_info(client, "persistence").get("rdb_saves", 0))
        try:
            client.bgsave(schedule=False)
        except RedisError as error:
            raise DbkeepError(f"redis {_instance(job)[0]}: BGSAVE refused: {error}; try again") from None
    at = datetime.now(UTC)
    return Fence(at=at, name=f"bgsave {at.isoformat(timespec='milliseconds')}")


def mark(host: BackupHost, name: str, ready: Ready = at_once) -> Fence:
    """Connect, call `ready` and write `name` into the append-only file, by a key that expires soon."""
    backup, settings = host.with_redis()
    with connect(backup.instance, settings.instances[backup.instance]) as client:
        ready()
        client.set(MARKER, name, ex=1)
        return Fence(at=datetime.now(UTC), name=name)


def collect(job: Job, point: Fence) -> Part:
    """Wait for the save, store its file and return the part. Raises DbkeepError when the save or the file is bad."""
    backup, settings = job.host.with_redis()
    name = backup.instance
    with connect(*_instance(job)) as client:
        _wait_for_save(client)
        state = _info(client, "persistence")
        if state["rdb_last_bgsave_status"] != "ok" or int(state.get("rdb_saves", 1)) == job.facts["saves"]:
            raise DbkeepError(f"redis {name}: BGSAVE failed; read the log of {backup.service} (disk full, no memory?)")
    after = instance_counts(settings, name)
    configuration = job.facts["configuration"]
    dump = Path(configuration["dir"]) / configuration["dbfilename"]
    # The open file stays this dump even when the server's own next save replaces the name.
    with dump.open("rb") as stream:
        keys, expires = check_dump(stream, settings.server)
        stored = seal(_blocks(stream), job.folder / FILE_NAME, job.settings.recipients)
        digest = dump_digest(stream)
    return job.part(
        point,
        server_version=job.facts["version"],
        stored_bytes=stored.size,
        files=(stored,),
        counts=Count.between(job.facts["before"], after),
        digests={name: digest},
        shape={"functions": job.facts["functions"]},
        tools={"dump": "rdb"},
        not_backed_up=tuple(sorted(other for other in settings.instances if other != name)),
        details={
            "instance": name,
            "keys": keys,
            "keys_with_expiry": expires,
            "functions": job.facts["functions"],
            "configuration": configuration,
        },
    )


def check_dump(stream: BinaryIO, server: RedisServer) -> tuple[int, int]:
    """Return how many keys an RDB file holds and how many of them expire, as the server's own tool reads it.

    Raises UsageError when the tool is missing, DbkeepError when it finds the file damaged.
    """
    tool, descriptor = f"{server}-check-rdb", stream.fileno()
    try:
        done = subprocess.run(
            [tool, f"/proc/self/fd/{descriptor}"],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError(f"{tool} is not installed; install {server}-tools") from None
    found = {name: int(number) for number, name in re.findall(r"(\d+) (keys read|expires)\b", done.stdout)}
    if done.returncode != 0 or "RDB looks OK" not in done.stdout:
        reason = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise DbkeepError(f"redis: the dump is damaged: {tool} says {reason}; save again")
    return found["keys read"], found["expires"]


def dump_digest(stream: BinaryIO) -> str:
    """Return the digest of a whole dump: it stands for all keys of its instance at once."""
    digest = hashlib.sha256()
    for block in _blocks(stream):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    os.lseek(stream.fileno(), 0, os.SEEK_SET)
    while block := stream.read(BLOCK):
        yield block


def _wait_for_save(client: redis.Redis) -> None:
    deadline = time.monotonic() + SAVE_SECONDS
    while _info(client, "persistence")["rdb_bgsave_in_progress"]:
        if time.monotonic() > deadline:
            raise DbkeepError(f"redis: a save runs for more than {SAVE_SECONDS} s; look at the disk of the host")
        time.sleep(0.05)


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    return client.info(section)


def _instance(job: Job) -> tuple[str, RedisInstance]:
    backup, settings = job.host.with_redis()
    try:
        return backup.instance, settings.instances[backup.instance]
    except KeyError:
        raise UsageError(
            f"redis.json has no instance {backup.instance}, but backup.json; run playbooks/site.yml"
        ) from None
