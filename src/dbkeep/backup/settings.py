"""How backups of this host are made: agent.d/backup.json, beside the files that say how its engines are reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dbkeep.errors import UsageError
from dbkeep.evidence import EVIDENCE_DIRECTORY
from dbkeep.settings import AGENT_DIRECTORY, MongoDBSettings, PostgreSQLSettings, RedisSettings, Settings, read_settings

REPOSITORY = Path("/var/lib/dbkeep/backup")
LOCAL, ALL = "local", "all"
SIGNING_KEY = Path("/etc/dbkeep/secrets/backup-signing-key")


class PostgreSQLBackup(Settings):
    """The engine that backs the cluster up, pgBackRest's stanza of it, and the cluster's own place and service.

    Tables with at most `digest_mebibytes` in all have digests in the manifest, the smallest first.

    `archive_seconds` is how old WAL may get before it is cut off and goes to the stores with the next slice.
    """

    engine: Literal["pgbackrest", "basebackup"] = "pgbackrest"
    stanza: str = "chat"
    configuration: Path = Path("/etc/pgbackrest.conf")
    # Where pgBackRest's repository is, when not where its configuration says: a copy fetched from a store.
    repository: Path | None = None
    data_directory: Path
    service: str
    full_after_days: int = Field(default=7, ge=1)
    digest_mebibytes: int = Field(default=256, ge=0)
    differential_after_days: int = Field(default=1, ge=1)
    archive_seconds: int = Field(default=30, ge=0)
    os_user: str = "postgres"
    application_role: str = "app_api"


class MongoDBBackup(Settings):
    data_directory: Path = Path("/var/lib/mongodb")
    service: str = "mongod.service"
    keyfile: Path | None = Path("/etc/mongodb/keyfile")
    os_user: str = "mongodb"


class RedisBackup(Settings):
    """`instance` is backed up; every other instance of redis.json is declared as not backed up."""

    instance: str = "state"
    data_directory: Path
    service: str = "redis-server@state.service"
    os_user: str = "redis"


STORE_NAME = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")


class DirectoryStoreSettings(Settings):
    """A folder that holds a second copy. `off_host` says that it is the mount of another machine's disk."""

    type: Literal["directory"]
    name: str = STORE_NAME
    path: Path
    off_host: bool = False


class S3StoreSettings(Settings):
    """A bucket of an S3-compatible store, by TLS.

    `secret_key_file` holds the secret half of the key `access_key_id` and nothing else. `lock_days` is for how long no
    one can delete what was put (object lock, compliance mode), 0 for a store without locks. `checksums` off is for
    stores that refuse the checksum headers of newer clients.
    """

    type: Literal["s3"]
    name: str = STORE_NAME
    endpoint: str = Field(pattern=r"^https://[^/\s]+$")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*/)*$")
    region: str = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"
    access_key_id: str = Field(min_length=1)
    secret_key_file: Path
    ca_file: Path | None = None
    off_host: bool = True
    lock_days: int = Field(default=14, ge=0, le=3650)
    checksums: bool = True
    part_mebibytes: int = Field(default=16, ge=5, le=1024)
    attempts: int = Field(default=5, ge=1, le=20)
    connect_seconds: int = Field(default=10, ge=1)
    read_seconds: int = Field(default=60, ge=1)


StoreSettings = Annotated[DirectoryStoreSettings | S3StoreSettings, Field(discriminator="type")]


def off_host_store(stores: Iterable[StoreSettings]) -> str:
    """Return the name of the first store off the host, `local` without one: what a drill is to take its set from.

    The copy on the host is not the one that is left when the host is lost.
    """
    return next((store.name for store in stores if store.off_host), LOCAL)


class BackupSettings(Settings):
    """`recipients` are age public keys; the matching identities are never on this host.

    `signing_keys` are the public keys whose signatures are believed; this host signs with the one in
    `signing_key_file`, whose public half is among them.

    `stores` hold further copies of what is in `repository`, which is the first one. A host that stands aside has none:
    its `read_only_stores` are those of the environment's other hosts, from which it restores and drills.
    """

    repository: Path = REPOSITORY
    evidence: Path = EVIDENCE_DIRECTORY
    drill_directory: Path = Path("/var/lib/dbkeep/drill")
    recipients: tuple[str, ...] = Field(min_length=1)
    signing_keys: tuple[str, ...] = Field(min_length=1)
    signing_key_file: Path = SIGNING_KEY
    slot_minutes: int = Field(default=60, ge=1, le=1440)
    point_minutes: int = Field(default=5, ge=1, le=30)
    # How often the engines' logs are cut and copied; the most that is lost with the host is about twice that.
    ship_seconds: int = Field(default=20, ge=1, le=3600)
    keep_days: int = Field(default=14, ge=1)
    keep_minimum: int = Field(default=2, ge=1)
    keep_daily: int = Field(default=0, ge=0)
    keep_weekly: int = Field(default=0, ge=0)
    keep_monthly: int = Field(default=0, ge=0)
    stores: tuple[StoreSettings, ...] = ()
    read_only_stores: tuple[StoreSettings, ...] = ()
    postgresql: PostgreSQLBackup | None = None
    mongodb: MongoDBBackup | None = None
    redis: RedisBackup | None = None

    @property
    def readable_stores(self) -> tuple[StoreSettings, ...]:
        return self.stores + self.read_only_stores

    @model_validator(mode="after")
    def _stores_have_names_of_their_own(self) -> BackupSettings:
        names = [store.name for store in self.readable_stores]
        for name in names:
            if names.count(name) > 1 or name in (LOCAL, ALL):
                raise ValueError(f"stores: the name {name!r} is taken; give every store one of its own")
        return self


@dataclass(frozen=True, slots=True)
class BackupHost:
    """This host as the backup sees it: its backup settings and how each engine to back up is reached.

    `live` is the repository that the engines log into, where `settings` name one that is a copy of another.
    """

    settings: BackupSettings
    postgresql: PostgreSQLSettings | None = None
    mongodb: MongoDBSettings | None = None
    redis: RedisSettings | None = None
    live: Path | None = None

    @property
    def live_repository(self) -> Path:
        return self.live or self.settings.repository

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that are backed up here, in the order postgresql, mongodb, redis."""
        return tuple(name for name in ("postgresql", "mongodb", "redis") if getattr(self.settings, name) is not None)

    @property
    def sets(self) -> Path:
        return self.settings.repository / "sets"

    def with_postgresql(self) -> tuple[PostgreSQLBackup, PostgreSQLSettings]:
        """Return both settings of PostgreSQL; raises UsageError when it is not backed up here."""
        if self.settings.postgresql is None or self.postgresql is None:
            raise self._not_here("postgresql")
        return self.settings.postgresql, self.postgresql

    def with_mongodb(self) -> tuple[MongoDBBackup, MongoDBSettings]:
        """Return both settings of MongoDB; raises UsageError when it is not backed up here."""
        if self.settings.mongodb is None or self.mongodb is None:
            raise self._not_here("mongodb")
        return self.settings.mongodb, self.mongodb

    def with_redis(self) -> tuple[RedisBackup, RedisSettings]:
        """Return both settings of Redis; raises UsageError when it is not backed up here."""
        if self.settings.redis is None or self.redis is None:
            raise self._not_here("redis")
        return self.settings.redis, self.redis

    def _not_here(self, name: str) -> UsageError:
        return UsageError(f"{name} is not backed up on this host; here are {', '.join(self.engines) or 'no engines'}")

    def chosen(self, engines: list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
        """Return `engines`, or all of this host when None or empty; raises UsageError for one that is not here."""
        for name in engines or ():
            if name not in self.engines:
                raise UsageError(
                    f"{name} is not backed up on this host; here are {', '.join(self.engines) or 'no engines'}"
                )
        return tuple(name for name in self.engines if not engines or name in engines)


def read_host(directory: Path = AGENT_DIRECTORY) -> BackupHost:
    """Return this host's backup settings; raises UsageError naming the file and key that is missing or wrong."""
    settings = read_settings("backup", BackupSettings, directory)
    if settings is None:
        raise UsageError(f"{directory}/backup.json is missing: this host has no backup; run playbooks/site.yml")
    host = BackupHost(
        settings,
        postgresql=read_settings("postgresql", PostgreSQLSettings, directory),
        mongodb=read_settings("mongodb", MongoDBSettings, directory),
        redis=read_settings("redis", RedisSettings, directory),
    )
    for name in host.engines:
        if getattr(host, name) is None:
            raise UsageError(f"{directory}/{name}.json is missing, which backup.json needs; run playbooks/site.yml")
    return host
