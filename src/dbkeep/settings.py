"""How the agent on a host reaches the engines there: one file per engine in /etc/dbkeep/agent.d.

The roles write the files; a file's presence means that the host has that engine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dbkeep.errors import UsageError

AGENT_DIRECTORY = Path("/etc/dbkeep/agent.d")


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PostgreSQLServer(Settings):
    """The server's configuration on this host; without it a plan leaves the server's settings alone.

    `configuration_file` is the drop-in that holds sql/settings.yml; `settings` are those that only the host or its
    inventory knows. `memory_bytes` and `processors` are what PostgreSQL may use of the host. `unit` is the systemd
    service to restart where that is allowed.
    """

    configuration_file: Path
    settings: dict[str, bool | int | float | str] = {}
    memory_bytes: int
    processors: float
    unit: str | None = None
    restart_allowed: bool = False


class PostgreSQLArchive(Settings):
    """The drop-in that makes the server archive. The role backup says so in postgresql.d/archive.json."""

    configuration_file: Path
    settings: dict[str, bool | int | float | str] = {}


class PostgreSQLAccess(Settings):
    """Who logs on from where. Every role that logs on may do so from this host, `api_roles` from the API's hosts too.

    An address is one of IPv4 or IPv6, a network, or a host's name. `local_replication` lets the superuser at the socket
    copy the cluster (pg_basebackup).
    """

    hba_file: Path
    ident_file: Path
    own_addresses: tuple[str, ...]
    api_addresses: tuple[str, ...] = ()
    api_roles: tuple[str, ...] = ()
    local_replication: bool = False


class PostgreSQLSettings(Settings):
    """The local socket, as a user that pg_ident.conf maps to `user` (peer authentication: no password)."""

    socket_directory: Path
    port: int
    user: str = "postgres"
    database: str = "chat"
    server: PostgreSQLServer | None = None
    access: PostgreSQLAccess | None = None
    archive: PostgreSQLArchive | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The server's files that dbkeep writes on this host."""
        parts = (self.server, self.archive)
        access = (self.access.hba_file, self.access.ident_file) if self.access else ()
        return (*(part.configuration_file for part in parts if part), *access)


class MongoDBSettings(Settings):
    """TLS with the host administrator's client certificate (MONGODB-X509). `host` and `port` are the server here.

    `members` of the replica set, each "host:port", are asked for the primary where the server here cannot tell.
    """

    port: int
    database: str = "chat"
    replica_set: str
    ca_file: Path | None = None
    certificate_key_file: Path | None = None
    host: str = "localhost"
    members: tuple[str, ...] = ()


# Valkey is a fork of Redis: its packages name programs, units, files and its user alike, with "valkey" for "redis".
RedisServer = Literal["redis", "valkey"]


class RedisInstance(Settings):
    """One instance by its local socket, as `admin`, whose password is in `password_file`.

    `host_settings` are the directives that only the host knows (addresses, ports, paths, certificates);
    `config_file` and `acl_file` are what the instance starts from, so that a plan sees when they differ from it;
    `unit` is the systemd service to restart where that is allowed.
    """

    socket: Path
    password_file: Path | None = None
    user: str = "admin"
    host_settings: dict[str, str] = {}
    config_file: Path | None = None
    acl_file: Path | None = None
    unit: str | None = None


class RedisSettings(Settings):
    """The instances of the host, the memory that declared shares are shares of, and whether an apply may restart.

    All of them run `server`; `command` starts it where the one that is installed does not.
    """

    server: RedisServer = "redis"
    command: tuple[str, ...] = ()
    instances: dict[str, RedisInstance]
    memory_bytes: int
    restart_allowed: bool = False


S = TypeVar("S", bound=Settings)


def read_settings(name: str, model: type[S], directory: Path = AGENT_DIRECTORY) -> S | None:
    """Return the settings in `directory`/`name`.json, or None when the host does not have that file.

    A role adds keys to another role's settings with a file in `directory`/`name`.d.

    Raises UsageError naming file and key when the file cannot be read or used.
    """
    path = directory / f"{name}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for addition in sorted((directory / f"{name}.d").glob("*.json")):
            values |= json.loads(addition.read_text(encoding="utf-8"))
        return model.model_validate(values)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; run playbooks/site.yml"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be used: {error}; run playbooks/site.yml") from None
