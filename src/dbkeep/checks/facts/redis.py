"""The Redis instances of a host as they describe themselves to the local administrator.

Passwords and their digests never leave the server: only how many a user has.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import redis

from dbkeep.checks.facts.files import describe_files
from dbkeep.engines import required_settings
from dbkeep.redis.connect import connect
from dbkeep.redis.declared import ADMIN, Keyspaces
from dbkeep.redis.inspect import library
from dbkeep.redis.sample import sample
from dbkeep.redis.server import server
from dbkeep.settings import RedisSettings

CONFIGURATION = (
    "port",
    "tls-port",
    "bind",
    "protected-mode",
    "unixsocket",
    "unixsocketperm",
    "tls-protocols",
    "tls-auth-clients",
    "tls-replication",
    "enable-protected-configs",
    "enable-debug-command",
    "enable-module-command",
    "acl-pubsub-default",
    "aclfile",
    "dir",
    "appendonly",
    "appendfsync",
    "save",
    "maxmemory",
    "maxmemory-policy",
    "maxmemory-clients",
    "maxclients",
    "timeout",
    "notify-keyspace-events",
    "sanitize-dump-payload",
    "hide-user-data-from-log",
)


def gather(request: dict[str, Any]) -> dict[str, Any]:
    """The request may hold `attempts`, a list of [user, command, arguments...] to try with ACL DRYRUN, and `keyspaces`,
    the declared ones to compare a sample of the keys with."""
    settings = required_settings("redis")
    assert isinstance(settings, RedisSettings)  # noqa: S101 - the name decides the type
    instances = {}
    for name, instance in settings.instances.items():
        with connect(name, instance) as client:
            instances[name] = describe(client, request.get("attempts", []))
            if keyspaces := request.get("keyspaces"):
                instances[name]["keys"] = sample(client, name, Keyspaces.model_validate(keyspaces).keyspaces)
        configuration = instances[name]["configuration"]
        instances[name]["files"] = describe_files([configuration["aclfile"], configuration["dir"]])
        instances[name]["sockets"] = describe_files([configuration["unixsocket"]])
        instances[name]["acl_file"] = describe_acl_file(Path(configuration["aclfile"]))
    versions = {f"redis {name}": facts["version"] for name, facts in instances.items()}
    return {"versions": versions, "instances": instances}


def describe_acl_file(path: Path) -> dict[str, Any]:
    """Return mode and owner of an ACL file, and how many digests and how many passwords in clear stand in it."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    words = [word for line in lines if line.startswith("user ") for word in line.split()]
    return {
        **describe_files([str(path)])[str(path)],
        "digests": sum(word.startswith("#") for word in words),
        "in_clear": sum(word.startswith((">", "<")) for word in words),
    }


def describe(client: redis.Redis, attempts: list[list[str]]) -> dict[str, Any]:
    """Return what one instance says about itself. `client` is an administrator's, with decoded answers."""
    info: dict[str, Any] = client.info("everything")
    return {
        "version": server(info).short,
        "memory": {name: info[name] for name in ("used_memory", "maxmemory", "maxmemory_policy")},
        "persistence": {
            name: info[name]
            for name in ("aof_enabled", "aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        },
        "evicted_keys": info["evicted_keys"],
        "configuration": client.config_get(*CONFIGURATION),
        "users": {str(name): _user(client, str(name)) for name in client.acl_users()},
        # A module without a path is part of the server itself (Redis 8: vectorset).
        "modules": [module["name"] for module in client.module_list() if module["path"]],
        "libraries": _libraries(client),
        "network_administrators": sum(_is_remote_administrator(entry) for entry in client.client_list()),
        "dry_runs": [_dry_run(client, words) for words in attempts],
    }


def _user(client: redis.Redis, name: str) -> dict[str, Any]:
    raw: dict[str, Any] = client.acl_getuser(name)  # type: ignore[assignment]
    return {
        "flags": sorted(raw["flags"]),
        "passwords": len(raw["passwords"]),
        "keys": raw["keys"],
        "channels": raw["channels"],
        "commands": sorted(raw["commands"]),
        "categories": sorted(raw["categories"]),
        "selectors": [" ".join(map(str, words)) for words in raw["selectors"]],
    }


def _libraries(client: redis.Redis) -> dict[str, str]:
    """Return the SHA-256 of the code of every function library, by name."""
    replies = client.execute_command("FUNCTION LIST", "WITHCODE")  # type: ignore[no-untyped-call]
    return {name: hashlib.sha256(code.encode()).hexdigest() for name, code in map(library, replies)}


def _is_remote_administrator(entry: dict[str, str]) -> bool:
    """Tell by the flag U, which CLIENT LIST gives to the clients of a local socket."""
    return entry["user"] == ADMIN and "U" not in entry["flags"]


def _dry_run(client: redis.Redis, words: list[str]) -> dict[str, Any]:
    try:
        answer = client.execute_command("ACL", "DRYRUN", *words)  # type: ignore[no-untyped-call]
    except redis.ResponseError as error:
        answer = str(error)
    return {"attempt": words, "allowed": answer == "OK", "answer": answer}
