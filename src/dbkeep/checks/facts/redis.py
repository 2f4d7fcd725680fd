"""The Redis instances of a host as they describe themselves to the local administrator.

Passwords and their digests never leave the server: only how many a user has.
"""

from __future__ import annotations

from typing import Any

import redis

from dbkeep.checks.facts.files import describe_files
from dbkeep.engines import required_settings
from dbkeep.redis.connect import connect
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
SAMPLE = 2000
"""How many keys of an instance are looked at, at most."""


def gather(request: dict[str, Any]) -> dict[str, Any]:
    """The request may hold `attempts`: a list of [user, command, arguments...] to try with ACL DRYRUN."""
    settings = required_settings("redis")
    assert isinstance(settings, RedisSettings)  # noqa: S101 - the name decides the type
    instances = {}
    for name, instance in settings.instances.items():
        with connect(name, instance) as client:
            instances[name] = describe(client, request.get("attempts", []))
        configuration = instances[name]["configuration"]
        instances[name]["files"] = describe_files([configuration["aclfile"], configuration["dir"]])
        instances[name]["sockets"] = describe_files([configuration["unixsocket"]])
    versions = {f"redis {name}": facts["version"] for name, facts in instances.items()}
    return {"versions": versions, "instances": instances, "prefixes": request.get("prefixes", [])}


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
        "keys": _sample(client),
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
    }


def _sample(client: redis.Redis) -> dict[str, Any]:
    """Count sampled keys by the first part of their name, and those that never expire among them."""
    keys: list[str] = []
    for key in client.scan_iter(count=500):
        keys.append(key)
        if len(keys) == SAMPLE:
            break
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.pttl(key)
    found: dict[str, dict[str, int]] = {}
    for key, left in zip(keys, pipeline.execute(), strict=True):
        if left == -2:
            continue  # it expired after the scan
        prefix = key.partition(":")[0] + ":" if ":" in key else "(no prefix)"
        counts = found.setdefault(prefix, {"keys": 0, "without_expiry": 0})
        counts["keys"] += 1
        counts["without_expiry"] += left == -1
    return found


def _dry_run(client: redis.Redis, words: list[str]) -> dict[str, Any]:
    try:
        answer = client.execute_command("ACL", "DRYRUN", *words)  # type: ignore[no-untyped-call]
    except redis.ResponseError as error:
        answer = str(error)
    return {"attempt": words, "allowed": answer == "OK", "answer": answer}
