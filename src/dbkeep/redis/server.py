"""Which server answers: Redis, or Valkey, which forked from Redis 7.2 and still tells clients that version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbkeep.errors import UsageError
from dbkeep.settings import RedisServer

OLDEST: dict[RedisServer, tuple[int, int]] = {"redis": (7, 0), "valkey": (8, 1)}


@dataclass(frozen=True, slots=True)
class Server:
    """A server and its own version, such as Redis 7.0.15 or Valkey 8.1.1."""

    name: RedisServer
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name.capitalize()} {'.'.join(map(str, self.version))}"

    @property
    def short(self) -> str:
        """Return 7.0.15 for Redis, and Valkey 8.1.1 for what the engine redis does not lead one to expect."""
        return str(self).removeprefix("Redis ")


def server(info: Mapping[str, Any]) -> Server:
    """Return the server that says `info` of itself (INFO server)."""
    name: RedisServer = "valkey" if info.get("server_name") == "valkey" else "redis"
    return Server(name, tuple(map(int, str(info[f"{name}_version"]).split("."))))


def require_supported(found: Server, instance: str, wanted: RedisServer) -> None:
    """Raise UsageError when dbkeep does not manage that server, or the host is set up for the other one."""
    oldest = OLDEST[found.name]
    if found.name != wanted:
        raise UsageError(
            f"redis {instance}: {found} answers, the host is set up for {wanted}; run playbooks/site.yml with "
            f"redis_server as it was"
        )
    if found.version < oldest:
        raise UsageError(
            f"redis {instance}: {found} is too old: dbkeep manages {found.name.capitalize()} "
            f"{oldest[0]}.{oldest[1]} and newer; upgrade the package"
        )
