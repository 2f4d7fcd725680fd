"""How backups of this host are made: agent.d/backup.json, beside the files that say how its engines are reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from dbkeep.errors import UsageError
from dbkeep.evidence import EVIDENCE_DIRECTORY
from dbkeep.settings import AGENT_DIRECTORY, MongoDBSettings, PostgreSQLSettings, RedisSettings, Settings, read_settings

REPOSITORY = Path("/var/lib/dbkeep/backup")


class PostgreSQLBackup(Settings):
    """pgBackRest's stanza of the cluster, and the cluster's own place and service."""

    stanza: str = "chat"
    configuration: Path = Path("/etc/pgbackrest.conf")
    data_directory: Path
    service: str
    full_after_days: int = Field(default=7, ge=1)
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


class BackupSettings(Settings):
    """`recipients` are age public keys; the matching identities are never on this host."""

    repository: Path = REPOSITORY
    evidence: Path = EVIDENCE_DIRECTORY
    drill_directory: Path = Path("/var/lib/dbkeep/drill")
    recipients: tuple[str, ...] = Field(min_length=1)
    slot_minutes: int = Field(default=60, ge=1, le=1440)
    keep_days: int = Field(default=14, ge=1)
    keep_minimum: int = Field(default=2, ge=1)
    postgresql: PostgreSQLBackup | None = None
    mongodb: MongoDBBackup | None = None
    redis: RedisBackup | None = None


@dataclass(frozen=True, slots=True)
class BackupHost:
    """This host as the backup sees it: its backup settings and how each engine to back up is reached."""

    settings: BackupSettings
    postgresql: PostgreSQLSettings | None = None
    mongodb: MongoDBSettings | None = None
    redis: RedisSettings | None = None

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
