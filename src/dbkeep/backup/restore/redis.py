"""Puts a part of Redis back in place of the live instance.

A server with `appendonly yes` and a dump but no AOF starts empty and then overwrites the dump. So a throw-away server
loads the dump with `appendonly no`, or the dump and what was logged after it as one AOF; it writes a new AOF from that,
and only then the instance gets both files.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from dbkeep.backup.job import Progress
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.redis import check_dump, instance_counts
from dbkeep.backup.restore.replay_redis import lay_out
from dbkeep.backup.restore.safety_copy import give, set_aside
from dbkeep.backup.restore.service import Service
from dbkeep.backup.sealed_file import inflate_to, unseal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect
from dbkeep.sandbox import redis as sandbox
from dbkeep.settings import RedisSettings

REWRITE_SECONDS = 3600
LOAD_SECONDS = 600


def open_part(folder: Path, part: Part, identity: str, workspace: Path, settings: RedisSettings) -> Path:
    """Check and decrypt the part's dump into `workspace` and return its path. Raises DbkeepError when it is damaged."""
    packed, dump = workspace / "dump.rdb.zst", workspace / "dump.rdb"
    unseal(folder, part.files[0], packed, identity)
    inflate_to(packed, dump)
    packed.unlink()
    with dump.open("rb") as stream:
        check_dump(stream, settings)
    return dump


@contextmanager
def loaded(
    host: BackupHost, part: Part, identity: str, workspace: Path, target: RecoveryPoint | None = None
) -> Iterator[RedisSettings]:
    """Run a throw-away server below `workspace` with the part, or with the instance as it was at `target`.

    The instance is named as the part's. Its folder is `workspace`/server/NAME. Raises DbkeepError when the part or a
    slice up to the target is damaged or missing.
    """
    settings = host.with_redis()[1]
    name, names = part.details["instance"], part.details["configuration"]
    dump = open_part(host.sets / part.set_id / part.engine, part, identity, workspace, settings)
    folder = workspace / "server"
    if target:
        lay_out(host, part, target, identity, dump=dump, data=folder / name)
    directives = {
        "appendonly": "yes" if target else "no",
        "appenddirname": names["appenddirname"],
        "appendfilename": names["appendfilename"],
        "aof-timestamp-enabled": "yes",
    }
    with sandbox.start(
        folder,
        {name: directives},
        data=None if target else {name: dump},
        server=settings.server,
        program=sandbox.find_program(settings.server, settings.command),
    ) as copy:
        yield copy


def live_counts(host: BackupHost) -> dict[str, int]:
    """Return the keys of the instance by keyspace now. Raises DbkeepError when the server does not answer."""
    backup, settings = host.with_redis()
    return instance_counts(settings, backup.instance)


def replace(
    host: BackupHost,
    part: Part,
    identity: str,
    service: Service,
    progress: Progress,
    *,
    target: RecoveryPoint | None = None,
) -> dict[str, Any]:
    """Restore the part, carried on to `target` if there is one, as the live instance and return what is there now.

    Raises DbkeepError when a step fails; the instance is then as it was.
    """
    settings, _ = host.with_redis()
    with tempfile.TemporaryDirectory(dir=host.settings.drill_directory) as workspace:
        Path(workspace).chmod(0o711)
        progress("redis: loading the dump in a throw-away server, which writes the append-only file")
        with loaded(host, part, identity, Path(workspace), target) as copy:
            made = _write_files(copy, part, Path(workspace) / "server")
        with set_aside(settings.data_directory, service, settings.os_user) as safety:
            for source in made:
                shutil.move(source, settings.data_directory / source.name)
            give(settings.data_directory, settings.os_user)
            service.start()
            _wait_until_loaded(host)
    return {"safety_copy": str(safety) if safety else None, "counts": live_counts(host)}


def _write_files(copy: RedisSettings, part: Part, folder: Path) -> list[Path]:
    """Make the throw-away server write a new append-only file and a dump; return them, for when it has stopped."""
    name, configuration = part.details["instance"], part.details["configuration"]
    with connect(name, copy.instances[name]) as client:
        if client.info("persistence")["aof_enabled"]:
            client.bgrewriteaof()
        else:
            client.config_set("appendonly", "yes")
        _wait_for_rewrite(client)
        client.save()
    data = folder / name
    dump = (data / "dump.rdb").rename(data / configuration["dbfilename"])
    return [dump, data / configuration["appenddirname"]]


def _wait_for_rewrite(client: redis.Redis) -> None:
    deadline = time.monotonic() + REWRITE_SECONDS
    while True:
        state = client.info("persistence")
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            break
        if time.monotonic() > deadline:
            raise DbkeepError(f"redis: the append-only file was not written in {REWRITE_SECONDS} s; look at the disk")
        time.sleep(0.05)
    if state["aof_last_bgrewrite_status"] != "ok":
        raise DbkeepError("redis: the append-only file could not be written; look at the space left on the disk")


def _wait_until_loaded(host: BackupHost) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while True:
        try:
            live_counts(host)
            return
        except DbkeepError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
