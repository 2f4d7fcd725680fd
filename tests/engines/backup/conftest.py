"""One host with all three engines, real servers in a folder, and what agent.d/backup.json would say of it."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest

from dbkeep.backup.manifest import Part, set_id_of
from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, BackupSettings, MongoDBBackup, PostgreSQLBackup, RedisBackup
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis
from dbkeep.sandbox import mongodb as mongodb_sandbox
from dbkeep.sandbox import postgresql as postgresql_sandbox
from dbkeep.sandbox import redis as redis_sandbox
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server
from dbkeep.secrets import age_recipient
from dbkeep.settings import MongoDBSettings, PostgreSQLSettings, RedisInstance

from ... import signing
from .stores import BUCKET, client

ENGINES = ("postgresql", "mongodb", "redis")
STATE = {"appendonly": "yes", "aof-timestamp-enabled": "yes"}
CANARY = "canary-9f1c2ab7"


@dataclass
class SandboxService:
    """A sandbox as a service that a restore stops and starts."""

    begin: Callable[[], AbstractContextManager[Any]]
    settings: Any = None
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.settings = self.stack.enter_context(self.begin())

    def stop(self) -> None:
        self.stack.close()


@dataclass
class Site:
    """The host under test: `host` for the code, `identity` that opens its sets, `services` for restores."""

    folder: Path
    host: BackupHost
    identity: str
    services: dict[str, SandboxService]
    last: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def state(self) -> tuple[str, RedisInstance]:
        assert self.host.redis is not None
        return "state", self.host.redis.instances["state"]

    def take(self, engines: tuple[str, ...] = (), host: BackupHost | None = None) -> dict[str, Part]:
        """Take a backup set with an id of its own; `host` is this site's with other settings."""
        return {part.engine: part for part in run(host or self.host, self.another_id(), engines)}

    def another_id(self) -> str:
        """Return an id that no set of this site has yet."""
        self.last = max(self.last + timedelta(seconds=1), datetime.now(UTC))
        return set_id_of(self.last)

    def file(self, part: Part) -> Path:
        return self.host.sets / part.set_id / part.engine / part.files[0].name


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path that the engines' own users may enter."""
    path = Path(tempfile.mkdtemp(prefix="dbkeep-backup-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    with make_site(folder) as found:
        fill(found)
        yield found


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[S3Server]:
    """An S3 server with a bucket that has versions and object lock."""
    with s3.locking(folder / "locking") as running:
        client(running).create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        yield running


@contextmanager
def make_site(folder: Path, identity: str | None = None, engines: tuple[str, ...] = ENGINES) -> Iterator[Site]:
    """A host with empty engines and a new stanza below `folder`; its sets open with `identity`, or one of its own."""
    configuration = write_pgbackrest(folder)
    archive = f"pgbackrest --config={configuration} --stanza=chat archive-push %p"
    options = {"archive_mode": "on", "archive_command": archive, "wal_level": "replica"}
    services = {
        "postgresql": SandboxService(lambda: postgresql_sandbox.start(folder / "pg", options=options)),
        "mongodb": SandboxService(lambda: mongodb_sandbox.start(folder / "mongo", initiate=False)),
        "redis": SandboxService(lambda: redis_sandbox.start(folder / "redis", {"state": STATE, "cache": {}})),
    }
    services = {name: services[name] for name in engines}
    identity = identity or str(pyrage.x25519.Identity.generate())
    try:
        for service in services.values():
            service.start()
        if "mongodb" in engines:
            mongodb_sandbox._initiate(services["mongodb"].settings, None)
        settings = backup_settings(
            folder,
            identity,
            postgresql=PostgreSQLBackup(
                configuration=configuration, data_directory=folder / "pg" / "data", service="postgresql"
            ),
            mongodb=MongoDBBackup(
                data_directory=folder / "mongo" / "data", service="mongod", keyfile=None, os_user="root"
            ),
            redis=RedisBackup(data_directory=folder / "redis" / "state", service="redis"),
        ).model_copy(update=dict.fromkeys(set(ENGINES) - set(engines)))
        host = BackupHost(settings, **{name: service.settings for name, service in services.items()})
        if "postgresql" in engines:
            stanza_create(configuration)
        yield Site(folder, host, identity, services)
    finally:
        for service in services.values():
            service.stop()


def backup_settings(folder: Path, identity: str, **engines: Any) -> BackupSettings:
    """Return the settings of a host whose repository is below `folder`, sealed to `identity` and signed."""
    return BackupSettings(
        repository=folder / "backup",
        evidence=folder / "evidence",
        drill_directory=folder / "drill",
        recipients=(age_recipient(identity),),
        signing_keys=signing.PUBLIC,
        signing_key_file=signing.write_key(folder),
        **engines,
    )


def write_pgbackrest(folder: Path) -> Path:
    user = pwd.getpwnam("postgres")
    (folder / "backup").mkdir(mode=0o711, parents=True, exist_ok=True)
    for name in ("backup/postgresql", "log", "lock", "spool"):
        (folder / name).mkdir(mode=0o750)
        os.chown(folder / name, user.pw_uid, user.pw_gid)
    configuration = folder / "pgbackrest.conf"
    configuration.write_text(
        f"""[global]
repo1-path={folder}/backup/postgresql
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=only-for-this-test-0123456789
repo1-bundle=y
repo1-retention-full-type=time
repo1-retention-full=14
expire-auto=n
job-retry=0
log-path={folder}/log
lock-path={folder}/lock
spool-path={folder}/spool
compress-type=zst
start-fast=y
[global:archive-push]
archive-async=y
[chat]
pg1-path={folder}/pg/data
pg1-socket-path={folder}/pg/socket
""",
        encoding="utf-8",
    )
    os.chown(configuration, user.pw_uid, user.pw_gid)
    configuration.chmod(0o640)
    return configuration


def stanza_create(configuration: Path) -> None:
    PgBackRest("chat", configuration, "postgres").run("stanza-create")


def fill(site: Site) -> None:
    """Tables with row security, collections with validators, indexes and accounts, keys with and without a date."""
    host = site.host
    if host.postgresql:
        _fill_postgresql(host.postgresql)
    if host.mongodb:
        _fill_mongodb(host.mongodb)
    if host.redis:
        _fill_redis(site)


def _fill_postgresql(settings: PostgreSQLSettings) -> None:
    with postgresql(settings, "postgres") as connection:
        connection.execute("CREATE DATABASE chat")
    with postgresql(settings) as connection:
        for statement in SCHEMA:
            connection.execute(statement)


def _fill_mongodb(settings: MongoDBSettings) -> None:
    with mongodb(settings) as client:
        database = client["chat"]
        database.create_collection("messages", validator={"$jsonSchema": {"required": ["content"]}})
        database["messages"].insert_many([{"n": n, "content": f"{CANARY} {n}"} for n in range(2500)])
        database["messages"].create_index([("n", -1), ("content", 1)], name="by_n", unique=True)
        database["notifications"].create_index("expires_at", expireAfterSeconds=0)
        database["notifications"].insert_one({"expires_at": datetime(2090, 1, 1, tzinfo=UTC)})
        database.create_collection("empty", capped=True, size=4096)
        database.command({"create": "recent", "viewOn": "messages", "pipeline": [{"$match": {"n": {"$gt": 2000}}}]})
        privileges = [{"resource": {"db": "chat", "collection": "messages"}, "actions": ["find"]}]
        client.admin.command({"createRole": "reader", "privileges": privileges, "roles": []})
        client.admin.command({"createUser": "chat_api", "pwd": "a-password-of-this-test", "roles": ["reader"]})


def _fill_redis(site: Site) -> None:
    with redis(*site.state()) as client:
        for number in range(300):
            client.set(f"sess:{number}", f"{CANARY} {number}", ex=3600)
            client.sadd(f"pres:{number % 7}", number)
        client.function_load("#!lua name=limits\nredis.register_function('one', function() return 1 end)")


SCHEMA = [
    "CREATE SCHEMA chat",
    "CREATE ROLE app_api NOLOGIN",
    "CREATE TABLE chat.users (id int PRIMARY KEY, name text NOT NULL)",
    f"INSERT INTO chat.users SELECT n, '{CANARY} ' || n FROM generate_series(1, 1200) n",
    "CREATE TABLE chat.tokens (id int PRIMARY KEY)",
    "INSERT INTO chat.tokens VALUES (1)",
    "GRANT USAGE ON SCHEMA chat TO app_api",
    "GRANT SELECT (id) ON chat.users TO app_api",
    "ALTER TABLE chat.users ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE chat.users FORCE ROW LEVEL SECURITY",
    "ALTER TABLE chat.tokens ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE chat.tokens FORCE ROW LEVEL SECURITY",
    "CREATE POLICY own ON chat.users TO app_api USING (id = nullif(current_setting('app.user_id', true), '')::int)",
]
