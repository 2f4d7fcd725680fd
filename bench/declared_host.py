"""A throw-away host with the three engines as declared, over TLS, and what takes and restores its backups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage

from backup_postgresql import STANZA, write_configuration
from backup_redis import fill as fill_redis
from dbkeep import mongodb, postgresql, redis
from dbkeep.backup.drill.copy import Copy, Serving
from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.backup.settings import BackupHost, BackupSettings, MongoDBBackup, PostgreSQLBackup, RedisBackup
from dbkeep.environment import checkout
from dbkeep.mongodb.connect import connect as mongodb_connect
from dbkeep.ports import LOOPBACK, free_port
from dbkeep.postgresql.connect import connect as postgresql_connect
from dbkeep.redis.statements import directives
from dbkeep.sandbox import mongodb as mongodb_sandbox
from dbkeep.sandbox import postgresql as postgresql_sandbox
from dbkeep.sandbox import redis as redis_sandbox
from dbkeep.sandbox.authority import Authority
from dbkeep.secrets import age_recipient, new_password
from mongodb_population import populate
from population import fill as fill_postgresql
from signing import signing

REDIS_BYTES = 40 * 1024**3
INSTANCES = ("state", "cache")


@dataclass(frozen=True, slots=True)
class Data:
    """How much the engines hold: users with what belongs to them, messages, keys."""

    users: int
    messages: int
    keys: int


@dataclass(frozen=True, slots=True)
class DeclaredHost:
    """`copies` are the running engines, as the reference API is started before them; `identity` opens the sets."""

    host: BackupHost
    identity: str
    copies: Mapping[str, Copy]
    authority: Authority


@contextmanager
def start(folder: Path, data: Data) -> Iterator[DeclaredHost]:
    """Start the engines below `folder`, which their users must be able to enter, with `data`; stop them at the end."""
    authority, identity = Authority(folder, "bench"), str(pyrage.x25519.Identity.generate())
    with ExitStack() as stack:
        copies = {
            "postgresql": stack.enter_context(_postgresql(folder, authority, data.users)),
            "mongodb": stack.enter_context(_mongodb(folder, authority, data.messages)),
            "redis": stack.enter_context(_redis(folder, authority, data.keys)),
        }
        settings = BackupSettings(
            repository=folder / "backup",
            evidence=folder / "evidence",
            drill_directory=folder / "drill",
            recipients=(age_recipient(identity),),
            **signing(folder),
            # No days between two full backups: each run does the same work.
            postgresql=PostgreSQLBackup(
                stanza=STANZA,
                configuration=folder / "pgbackrest.conf",
                data_directory=folder / "pg" / "data",
                service="postgresql",
            ).model_copy(update={"full_after_days": 0}),
            mongodb=MongoDBBackup(),
            redis=RedisBackup(data_directory=folder / "redis" / "state", service="redis"),
        )
        engines = {engine: copy.settings for engine, copy in copies.items()}
        yield DeclaredHost(BackupHost(settings, **engines), identity, copies, authority)


def _serving(folder: Path, authority: Authority, engine: Any) -> Serving:
    users = engine.users(engine.read_declared(checkout()))
    return Serving(folder, authority, passwords={user: new_password() for user in users})


@contextmanager
def _postgresql(folder: Path, authority: Authority, users: int) -> Iterator[Copy]:
    served, port = _serving(folder, authority, postgresql), free_port()
    configuration = write_configuration(folder, port)
    certificate, key, _ = authority.issue("postgresql", ("postgres", "nobody"))
    encrypted = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    where: dict[str, Any] = {"port": port, "listen_addresses": LOOPBACK, "fast": False}
    # Filled without archiving, so that the repository begins with the first backup.
    minimal = {"wal_level": "minimal", "max_wal_senders": "0"}
    with postgresql_sandbox.start(folder / "pg", **where, options=encrypted | minimal) as server:
        declared = postgresql.read_declared(checkout(), context="signed")
        postgresql.apply(server, declared, {**served.passwords, "context_key": served.context_key})
        with postgresql_connect(server) as connection:
            fill_postgresql(connection, users)
    archive = f"pgbackrest --config={configuration} --stanza={STANZA} archive-push %p"
    archiving = {"archive_mode": "on", "archive_command": archive, "wal_level": "replica"}
    with postgresql_sandbox.start(folder / "pg", **where, options=encrypted | archiving) as server:
        PgBackRest(STANZA, configuration, "postgres").run("stanza-create")
        yield Copy(server, {"postgresql": port}, served)


@contextmanager
def _mongodb(folder: Path, authority: Authority, messages: int) -> Iterator[Copy]:
    served = _serving(folder, authority, mongodb)
    with mongodb_sandbox.start(folder / "mongo", security=authority.mongodb(), cache_gb=1) as server:
        mongodb.apply(server, mongodb.read_declared(checkout()), served.passwords)
        with mongodb_connect(server) as client:
            populate(client, messages)
        yield Copy(server, {"mongodb": server.port}, served)


@contextmanager
def _redis(folder: Path, authority: Authority, keys: int) -> Iterator[Copy]:
    served, declared = _serving(folder, authority, redis), redis.read_declared(checkout())
    ports = {instance: free_port() for instance in INSTANCES}
    certificate, key, _ = authority.issue("redis", ("redis", "nobody"))
    version = redis_sandbox.installed_version()
    wanted = {instance: directives(declared, instance, version, {}, REDIS_BYTES) for instance in INSTANCES}
    listeners = {name: redis_sandbox.TLS(port, certificate, key, authority.file) for name, port in ports.items()}
    with redis_sandbox.start(folder / "redis", wanted, tls=listeners, memory_bytes=REDIS_BYTES) as server:
        redis.apply(server, declared, served.passwords)
        fill_redis(server.instances["state"], keys)
        yield Copy(server, {f"redis_{instance}": port for instance, port in ports.items()}, served)
