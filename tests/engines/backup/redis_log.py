"""One real instance of Redis, what is sealed of its append-only file, and numbered records that tell what is there."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage

from dbkeep.backup.log.redis import ENGINE, cut
from dbkeep.backup.log.slices import Slice, newest_slice
from dbkeep.backup.manifest import Part, RecoveryPoint, set_id_of
from dbkeep.backup.redis import mark
from dbkeep.backup.restore.redis import loaded
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, RedisBackup
from dbkeep.redis.connect import connect
from dbkeep.sandbox import redis as sandbox
from dbkeep.settings import RedisSettings

from .conftest import STATE, SandboxService, backup_settings

LIST = "sess:numbers"


@dataclass
class Instance:
    """The instance `state`, its host, and the numbers written to it so far."""

    folder: Path
    host: BackupHost
    identity: str
    service: SandboxService
    written: int = 0
    last: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def settings(self) -> RedisSettings:
        settings: RedisSettings = self.service.settings
        return settings

    def write(self, count: int = 1) -> int:
        """Append the next numbers, each acknowledged, and return the last one."""
        with connect("state", self.settings.instances["state"]) as client:
            for _ in range(count):
                client.rpush(LIST, self.written + 1)
                self.written += 1
        return self.written

    def rewrite(self, times: int = 1) -> None:
        """Rewrite the append-only file as the server does it by itself, and wait until its old files are gone."""
        with connect("state", self.settings.instances["state"]) as client:
            for _ in range(times):
                client.bgrewriteaof()
                while client.info("persistence")["aof_rewrite_in_progress"]:
                    time.sleep(0.01)

    def take(self) -> Part:
        self.last = max(self.last + timedelta(seconds=1), datetime.now(UTC))
        (part,) = run(self.host, set_id_of(self.last), ["redis"])
        return part

    def cut(self) -> Slice:
        (found,) = cut(self.host, newest_slice(self.host.settings.repository, ENGINE, self.host.settings.signing_keys))
        return found

    def mark(self, name: str) -> RecoveryPoint:
        fence = mark(self.host, name)
        return RecoveryPoint(at=fence.at, name=fence.name)

    def numbers(self, part: Part, target: RecoveryPoint | None, name: str = "copy") -> list[int]:
        """Return the numbers of a throw-away copy that was brought to `target`."""
        workspace = self.folder / name
        workspace.mkdir(mode=0o711)
        with (
            loaded(self.host, part, self.identity, workspace, target) as copy,
            connect("state", copy.instances["state"]) as client,
        ):
            return [int(number) for number in client.lrange(LIST, 0, -1)]

    def process(self) -> int:
        with connect("state", self.settings.instances["state"]) as client:
            return int(client.info("server")["process_id"])

    def kill(self) -> None:
        """End the server as the power does, but for what the kernel has."""
        os.kill(self.process(), signal.SIGKILL)
        time.sleep(0.2)


@contextmanager
def folder() -> Iterator[Path]:
    """Make a short path that the server's own user may enter."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-log-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def numbers(last: int) -> list[int]:
    return list(range(1, last + 1))


@contextmanager
def start(folder: Path, program: sandbox.Program | None = None, **directives: str) -> Iterator[Instance]:
    """Run an instance below `folder` with the settings that a backup needs, and nothing in it."""

    def begin() -> Any:
        return sandbox.start(folder / "redis", {"state": {**STATE, **directives}, "cache": {}}, program=program)

    service = SandboxService(begin)
    service.start()
    identity = str(pyrage.x25519.Identity.generate())
    settings = backup_settings(
        folder,
        identity,
        redis=RedisBackup(data_directory=folder / "redis" / "state", service="redis"),
    )
    settings.drill_directory.mkdir(mode=0o711)
    try:
        yield Instance(folder, BackupHost(settings, redis=service.settings), identity, service)
    finally:
        service.stop()


def at(point: RecoveryPoint) -> RecoveryPoint:
    """Return the second in which a point was set, as a restore to a time goes to it."""
    return RecoveryPoint(at=point.at.replace(microsecond=0), name="")


def moved(host: BackupHost, repository: Path) -> BackupHost:
    """Return the host with another repository."""
    return replace(host, settings=host.settings.model_copy(update={"repository": repository}))
