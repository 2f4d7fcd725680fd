"""Puts a part of Redis back in place of the live instance.

A server with `appendonly yes` and a dump but no AOF starts empty and then overwrites the dump. So a throw-away server
loads the dump with `appendonly no`, writes the AOF from it, and only then the instance gets both files.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from dbkeep.backup.job import Progress
from dbkeep.backup.manifest import Part
from dbkeep.backup.redis import check_dump, instance_counts
from dbkeep.backup.safety_copy import give, set_aside
from dbkeep.backup.sealed_file import inflate_to, unseal
from dbkeep.backup.service import Service
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect
from dbkeep.sandbox import redis as sandbox
from dbkeep.settings import RedisServer

REWRITE_SECONDS = 3600
LOAD_SECONDS = 600


def open_part(folder: Path, part: Part, identity: str, workspace: Path, server: RedisServer) -> Path:
    """Check and decrypt the part's dump into `workspace` and return its path. Raises DbkeepError when it is damaged."""
    packed, dump = workspace / "dump.rdb.zst", workspace / "dump.rdb"
    unseal(folder, part.files[0], packed, identity)
    inflate_to(packed, dump)
    packed.unlink()
    with dump.open("rb") as stream:
        check_dump(stream, server)
    return dump


def live_counts(host: BackupHost) -> dict[str, int]:
    """Return the keys of the instance by keyspace now. Raises DbkeepError when the server does not answer."""
    backup, settings = host.with_redis()
    return instance_counts(settings, backup.instance)


def replace(host: BackupHost, part: Part, identity: str, service: Service, progress: Progress) -> dict[str, Any]:
    """Restore the part as the live instance and return what is there now.

    Raises DbkeepError when a step fails; the instance is then as it was.
    """
    settings, live = host.with_redis()
    folder = host.sets / part.set_id / part.engine
    with tempfile.TemporaryDirectory(dir=host.settings.drill_directory) as workspace:
        Path(workspace).chmod(0o711)
        dump = open_part(folder, part, identity, Path(workspace), live.server)
        progress("redis: loading the dump in a throw-away server, which writes the append-only file")
        made = _with_append_only_file(Path(workspace), dump, part.details["configuration"], live.server)
        with set_aside(settings.data_directory, service, settings.os_user) as safety:
            for source in made:
                shutil.move(source, settings.data_directory / source.name)
            give(settings.data_directory, settings.os_user)
            service.start()
            _wait_until_loaded(host)
    return {"safety_copy": str(safety) if safety else None, "counts": live_counts(host)}


def _with_append_only_file(
    workspace: Path, dump: Path, configuration: dict[str, str], server: RedisServer
) -> list[Path]:
    names = {name: configuration[name] for name in ("appenddirname", "appendfilename")}
    folder = workspace / "conversion"
    with (
        sandbox.start(
            folder, {"state": {"appendonly": "no", **names}}, data={"state": dump}, server=server
        ) as settings,
        connect("state", settings.instances["state"]) as client,
    ):
        if configuration["appendonly"] == "yes":
            client.config_set("appendonly", "yes")
            _wait_for_rewrite(client)
        client.save()
    data = folder / "state"
    stored = data / "dump.rdb"
    result = [stored.rename(data / configuration["dbfilename"])]
    if configuration["appendonly"] == "yes":
        result.append(data / configuration["appenddirname"])
    return result


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
