"""Redis' sides of `backup.py`: a set by dbkeep, and `redis-cli --rdb | zstd`."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyrage

from cost import Cost, cost_of
from dbkeep import redis
from dbkeep.backup.manifest import set_id_of
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, BackupSettings, RedisBackup
from dbkeep.environment import checkout
from dbkeep.evidence import now
from dbkeep.redis.connect import connect
from dbkeep.redis.statements import directives
from dbkeep.sandbox import redis as sandbox
from dbkeep.secrets import age_recipient
from dbkeep.settings import RedisInstance
from signing import signing

KEYS_OF_A_MEGABYTE = 6000
BATCH = 2000
MEMORY_BYTES = 40 * 1024**3


@dataclass
class Redis:
    """The state instance as declared with sessions, presence and rate limits, and what takes its backups."""

    folder: Path
    host: BackupHost
    process: int
    megabytes: int
    sets: int = 0

    @classmethod
    @contextmanager
    def start(cls, folder: Path, megabytes: int) -> Iterator[Redis]:
        folder.mkdir(parents=True)
        folder.chmod(0o711)
        declared = redis.read_declared(checkout())
        own = directives(declared, "state", sandbox.installed_version(), {}, MEMORY_BYTES)
        # Its own saves and rewrites would run into one side or the other, and redis-cli need not wait for a second
        # replica.
        own |= {"save": "", "auto-aof-rewrite-percentage": "0", "repl-diskless-sync-delay": "0"}
        with sandbox.start(folder / "server", {"state": own}, memory_bytes=MEMORY_BYTES) as server:
            instance = server.instances["state"]
            with connect("state", instance) as client:
                process = int(client.info("server")["process_id"])
            fill(instance, megabytes * KEYS_OF_A_MEGABYTE)
            settings = BackupSettings(
                repository=folder / "backup",
                evidence=folder / "evidence",
                recipients=(age_recipient(str(pyrage.x25519.Identity.generate())),),
                **signing(folder),
                redis=RedisBackup(data_directory=folder / "server" / "state", service="redis"),
            )
            yield cls(folder, BackupHost(settings, redis=server), process, megabytes)

    def run(self) -> Cost:
        self.sets += 1
        set_id = set_id_of(now() + timedelta(seconds=self.sets))
        return cost_of(lambda: run(self.host, set_id), [self.process])

    def by_hand(self) -> Cost:
        instance = self.host.with_redis()[1].instances["state"]
        password = (self.folder / "server" / "state" / "admin-password").read_text().strip()
        environment = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": password}
        command = ["redis-cli", "-s", str(instance.socket), "--user", instance.user, "--rdb", "-"]

        def work() -> None:
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as dump:
                packed = self.folder / "by-hand.rdb.zst"
                subprocess.run(["zstd", "-3", "-q", "-f", "-o", str(packed)], stdin=dump.stdout, check=True)
            if dump.returncode:
                raise SystemExit(f"redis-cli --rdb ended with {dump.returncode}")

        return cost_of(work, [self.process])


def fill(instance: RedisInstance, number: int) -> None:
    """Make so many keys: of four, two are sessions, one is a user's presence and one a rate limit."""
    with connect("state", instance) as client:
        for begin in range(0, number, BATCH):
            with client.pipeline(transaction=False) as pipeline:
                for n in range(begin, min(begin + BATCH, number)):
                    user = f"{n % 100_000:08x}-{secrets.token_hex(12)}"
                    if n % 4 < 2:
                        pipeline.set(f"sess:{secrets.token_urlsafe(24)}", user, ex=3600)
                    elif n % 4 == 2:
                        pipeline.zadd(f"pres:{user}", {f"connection-{i}": n + i for i in range(3)})
                    else:
                        pipeline.set(f"rl:api:{user}", n, ex=3600)
                pipeline.execute()
