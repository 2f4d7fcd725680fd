"""Redis: the RDB snapshot of the instance that must survive; every other instance is declared as not backed up.

A rewrite of the append-only file forks at the fence: its base is a dump of that moment, and the incremental file that
it begins has every command from there on. So a set and the slices after it meet at a byte. Key totals come from
redis-check-rdb reading the very file that is stored.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import redis
from redis.exceptions import RedisError

from dbkeep.backup.job import Fence, Job, Ready, at_once
from dbkeep.backup.key_changes import Changes
from dbkeep.backup.key_sample import Sample
from dbkeep.backup.log.append_only_file import Position, hold, settled
from dbkeep.backup.manifest import Part
from dbkeep.backup.rewritten_base import POLL_SECONDS, RewrittenBase
from dbkeep.backup.sealed_file import BLOCK, seal
from dbkeep.backup.settings import BackupHost
from dbkeep.engines import engine
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.connect import connect
from dbkeep.redis.server import server
from dbkeep.settings import RedisInstance, RedisSettings

FILE_NAME = "dump.rdb.zst.age"
SAVE_SECONDS = 3600
FENCE_SECONDS = 60
CONFIGURATION = ("dir", "dbfilename", "appenddirname", "appendfilename")
# redis/instances.yml declares them; without the last one a restore to a time has nothing to go by.
NEEDED = {"appendonly": "yes", "aof-use-rdb-preamble": "yes", "aof-timestamp-enabled": "yes"}
CHILDREN = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
# redis/keyspaces.yml declares it.
MARKER = "dbkeep:point"
MARKER_SECONDS = 86400


def instance_counts(settings: RedisSettings, name: str) -> dict[str, int]:
    """Return the keys of one instance by keyspace prefix, as `state/sess:`."""
    alone = settings.model_copy(update={"instances": {name: settings.instances[name]}})
    return engine("redis").counts(alone)


def prepare(job: Job) -> None:
    """Look at the instance and wait until none of its children runs.

    Raises DbkeepError when that does not end, UsageError when its append-only file is not as a set needs it.
    """
    with connect(*_instance(job)) as client:
        _wait_for_children(client)
        job.facts["version"] = server(_info(client, "server")).short
        configuration = cast(dict[str, str], client.config_get(*CONFIGURATION, *NEEDED))
        for setting, value in NEEDED.items():
            if configuration.get(setting) != value:
                raise UsageError(f"redis {_instance(job)[0]}: a backup needs {setting} {value}; run `dbkeep apply`")
        job.facts["configuration"] = configuration
        job.facts["functions"] = len(client.function_list())
    hold(_data_directory(job))


def fence(job: Job) -> Fence:
    """Start the rewrite; its child process holds the state of this moment. Raises DbkeepError when it cannot start."""
    with connect(*_instance(job)) as client, settled(_data_directory(job)):
        before = _info(client, "persistence")["aof_rewrites"]
        job.facts["changes"] = Changes.seen(client)
        try:
            client.bgrewriteaof()
        except RedisError as error:
            raise DbkeepError(f"redis {_instance(job)[0]}: BGREWRITEAOF refused: {error}; try again") from None
        # It is only scheduled when a save began after `prepare`.
        _wait(lambda: _info(client, "persistence")["aof_rewrites"] > before, FENCE_SECONDS)
        held = hold(_data_directory(job))
        at = datetime.now(UTC)
    return Fence(at=at, name=str(Position(held.incarnation, held.last, 0)))


def collect(job: Job, point: Fence) -> Part:
    """Store the rewrite's base while it is written and return the part. Raises DbkeepError when one of them is bad."""
    backup, settings = job.host.with_redis()
    name = backup.instance
    with ThreadPoolExecutor(1) as beside, connect(*_instance(job)) as client:
        sampling = beside.submit(Sample.taken, *_instance(job))
        sequence = Position.parse(point.name).sequence
        with RewrittenBase(backup.data_directory, sequence, job.started, _writing(client, backup.service)) as stream:
            checked = CheckedDump(stream, settings)
            stored = seal(checked.blocks(), job.folder / FILE_NAME, job.settings.recipients)
        sample = sampling.result()
        changes = job.facts["changes"].until(Changes.seen(client), checked.keys)
    return job.part(
        point,
        server_version=job.facts["version"],
        stored_bytes=stored.size,
        files=(stored,),
        counts=sample.bounds(changes, checked.keys),
        digests={name: checked.digest},
        shape={"functions": job.facts["functions"]},
        tools={"dump": "rdb"},
        not_backed_up=tuple(sorted(other for other in settings.instances if other != name)),
        details={
            "instance": name,
            "keys": checked.keys,
            "keys_with_expiry": checked.expires,
            "unseen": sample.unseen(changes, checked.keys),
            "functions": job.facts["functions"],
            "configuration": job.facts["configuration"],
        },
    )


def _writing(client: redis.Redis, service: str) -> Callable[[], bool]:
    """Return what says whether the rewrite goes on, and raises DbkeepError when it failed or takes too long."""
    deadline = time.monotonic() + SAVE_SECONDS

    def writing() -> bool:
        state = _info(client, "persistence")
        if state["aof_rewrite_in_progress"]:
            if time.monotonic() > deadline:
                raise DbkeepError(f"redis: a save runs for more than {SAVE_SECONDS} s; look at the disk of the host")
            return True
        if state["aof_last_bgrewrite_status"] != "ok":
            raise DbkeepError(f"redis: BGREWRITEAOF failed; read the log of {service} (disk full, no memory?)")
        return False

    return writing


def mark(host: BackupHost, name: str, ready: Ready = at_once) -> Fence:
    """Connect, call `ready` and write `name` into the append-only file, as the value of a key.

    A restore to it ends right after that. Raises DbkeepError when the instance writes no append-only file.
    """
    backup, settings = host.with_redis()
    with connect(backup.instance, settings.instances[backup.instance]) as client:
        ready()
        client.set(MARKER, name, ex=MARKER_SECONDS)
        at = datetime.now(UTC)
        if not _info(client, "persistence")["aof_enabled"]:
            raise DbkeepError(f"redis {backup.instance}: appendonly is off: no point can be set; run `dbkeep apply`")
    return Fence(at=at, name=name)


def check_dump(stream: BinaryIO, settings: RedisSettings) -> tuple[int, int]:
    """Return how many keys an RDB file holds and how many of them expire, as the server's own tool reads it.

    Raises UsageError when the tool is missing, DbkeepError when it finds the file damaged.
    """
    checked = CheckedDump(stream, settings)
    for _ in checked.blocks():
        pass
    return checked.keys, checked.expires


class Readable(Protocol):
    """What gives the bytes of a dump, none at its end."""

    def read(self, size: int, /) -> bytes: ...


class CheckedDump:
    """An RDB file that the server's own tool reads along with whoever reads its `blocks`.

    After the last one `keys` says how many there are, `expires` how many of them expire, and `digest` is as
    `dump_digest` makes it.
    """

    def __init__(self, stream: Readable, settings: RedisSettings) -> None:
        self._stream = stream
        self._tool = check_tool(settings, "rdb")
        self.keys = self.expires = 0
        self.digest = ""

    def blocks(self) -> Iterator[bytes]:
        """Yield the content; raises DbkeepError after it when the tool finds it damaged."""
        with subprocess.Popen([*self._tool, "/dev/stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None  # noqa: S101 - for the type checker
            assert process.stdout is not None  # noqa: S101 - for the type checker
            digest = hashlib.sha256()
            while block := self._stream.read(BLOCK):
                digest.update(block)
                # A tool that has found damage reads no more.
                with suppress(BrokenPipeError):
                    process.stdin.write(block)
                yield block
            with suppress(BrokenPipeError):
                process.stdin.close()
            output = process.stdout.read().decode(errors="replace")
        found = {name: int(number) for number, name in re.findall(r"(\d+) (keys read|expires)\b", output)}
        if process.returncode != 0 or "RDB looks OK" not in output:
            reason = (output.strip().splitlines() or ["no output"])[-1]
            name = Path(self._tool[-1]).name
            raise DbkeepError(f"redis: the dump is damaged: {name} says {reason}; save again")
        self.keys, self.expires = found["keys read"], found["expires"]
        self.digest = f"sha256:{digest.hexdigest()}"


def check_tool(settings: RedisSettings, kind: str) -> list[str]:
    """Return the command that runs the server's own check-`kind` (rdb, aof); raises UsageError when it is missing."""
    name = f"{settings.server}-check-{kind}"
    if settings.command:
        return [*settings.command[:-1], str(Path(settings.command[-1]).with_name(name))]
    if not shutil.which(name):
        raise UsageError(f"{name} is not installed; install {settings.server}-tools")
    return [name]


def dump_digest(stream: BinaryIO) -> str:
    """Return the digest of a whole dump, as a set has it: it stands for all keys of its instance at once."""
    digest = hashlib.sha256()
    while block := stream.read(BLOCK):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _data_directory(job: Job) -> Path:
    return job.host.with_redis()[0].data_directory


def _wait_for_children(client: redis.Redis) -> None:
    def idle() -> bool:
        state = _info(client, "persistence")
        return not any(state[name] for name in CHILDREN)

    _wait(idle)


def _wait(reached: Callable[[], bool], seconds: float = SAVE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise DbkeepError(f"redis: a save runs for more than {seconds} s; look at the disk of the host")
        time.sleep(POLL_SECONDS)


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
