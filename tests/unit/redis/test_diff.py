"""The diff is pure: restarts only where they are allowed, once per instance, after the file they read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dbkeep.plan import Change, Risk
from dbkeep.redis import read_declared, users
from dbkeep.redis.acl import expected
from dbkeep.redis.defaults import defaults
from dbkeep.redis.diff import diff
from dbkeep.redis.diff.settings import Rejection
from dbkeep.redis.inspect import LiveInstance
from dbkeep.redis.server import Server
from dbkeep.redis.statements import configuration_file, directives
from dbkeep.settings import RedisInstance, RedisSettings

DECLARED = read_declared(Path(__file__).parents[3])
PASSWORDS = {user: f"{user}-0123456789-0123456789-0123456789" for user in users(DECLARED)}
GIBIBYTE = 1024**3


def host(*, restart_allowed: bool) -> RedisSettings:
    instances = {
        name: RedisInstance(
            socket=Path(f"/run/redis-{name}/redis.sock"),
            config_file=Path(f"/etc/redis/redis-{name}.conf"),
            unit=f"redis-server@{name}.service",
        )
        for name in DECLARED.instances.instances
    }
    return RedisSettings(instances=instances, memory_bytes=GIBIBYTE, restart_allowed=restart_allowed)


def live(name: str, **settings: str) -> LiveInstance:
    """A converged instance on which some settings differ, in memory and in its file."""
    own = directives(DECLARED, name, (7, 0, 15), {}, GIBIBYTE)
    present = defaults(Server("redis", (7, 0, 15))) | own | settings
    found = {user.name: user for user in expected(DECLARED, name, (7, 0, 15), PASSWORDS)}
    functions = DECLARED.instances.instances[name].functions
    return LiveInstance(
        version="7.0.15",
        users=found,
        settings=present,
        libraries={library.name: library.code for library in DECLARED.libraries if library.name in functions},
        saved_users=found,
        configuration_text=configuration_file(own | settings),
    )


def changes(*, restart_allowed: bool = False, **settings: str) -> list[Change]:
    state = live("state", **{name.replace("_", "-"): value for name, value in settings.items()})
    return diff(
        DECLARED, {"state": state, "cache": live("cache")}, host(restart_allowed=restart_allowed), PASSWORDS, {}
    )


def test_a_converged_host_has_no_change() -> None:
    assert changes() == []


def test_a_restart_comes_once_and_after_the_file() -> None:
    found = changes(restart_allowed=True, databases="16", unixsocketperm="777", timeout="0")
    assert [change.kind for change in found] == ["setting", "configuration file", "restart"]
    assert found[2].statement == "systemctl restart redis-server@state.service"
    assert found[2].after == {"databases": "1", "unixsocketperm": "770"}
    assert not any(change.refused for change in found)


def test_a_restart_waits_where_it_is_not_allowed_and_keeps_nothing_from_running() -> None:
    found = changes(databases="16", timeout="0")
    assert [change.kind for change in found] == ["setting", "configuration file", "restart"]
    assert "redis_restart_allowed=true" in (found[2].waits_for or "")
    assert not any(change.refused or change.waits_for for change in found[:2])


def test_what_is_not_declared_has_to_be_as_the_server_has_it_by_default() -> None:
    found = changes(lfu_decay_time="0", tcp_backlog="1")
    assert [(change.kind, change.target) for change in found] == [
        ("setting", "state lfu-decay-time"),
        ("configuration file", "/etc/redis/redis-state.conf"),
        ("restart", "state"),
    ]
    assert found[0].summary == 'is "0", not declared, by default "1"'
    assert found[2].summary.startswith('tcp-backlog is "1", not declared, by default "511"')


def test_a_value_that_the_server_does_not_take_is_refused_with_its_line() -> None:
    instances = {"state": live("state", databases="16", timeout="0"), "cache": live("cache")}
    rejections = {"state": Rejection("databases", "argument must be more")}
    found = diff(DECLARED, instances, host(restart_allowed=True), PASSWORDS, {}, rejections=rejections)
    assert [change.kind for change in found] == ["setting", "setting", "configuration file"]
    line = DECLARED.lines["state"]["databases"]
    assert found[0].refused == (f"redis/instances.yml:{line}: Redis 7.0.15 does not take it: argument must be more")


RISKS = [
    ("state", {"appendonly": "no"}, {}, Risk.REWRITING, "all data is written to a new file"),
    ("state", {"maxmemory": "0"}, {}, Risk.SAFE, ""),
    ("state", {"maxmemory": "0"}, {"used_memory": GIBIBYTE}, Risk.DESTRUCTIVE, "writes are refused: 1024 MiB are used"),
    ("cache", {"maxmemory": "0"}, {"used_memory": GIBIBYTE}, Risk.DESTRUCTIVE, "keys are evicted: 1024 MiB are used"),
    ("state", {"maxmemory-policy": "allkeys-lru"}, {}, Risk.SAFE, "writes are refused when the memory is full"),
    ("cache", {"maxmemory-policy": "noeviction"}, {}, Risk.DESTRUCTIVE, "keys are evicted when the memory is full"),
    ("cache", {"maxmemory-policy": "allkeys-lru"}, {}, Risk.SAFE, "other keys are evicted than before"),
    ("cache", {"appendonly": "yes"}, {}, Risk.DESTRUCTIVE, "a crash loses what came after the last snapshot"),
    ("state", {"appendfsync": "always"}, {}, Risk.SAFE, "a crash loses more than before"),
    ("state", {"maxclients": "9000"}, {"clients": 3000}, Risk.LOCKING, "refused while 3000 are open"),
    ("state", {"maxclients": "9000"}, {"clients": 30}, Risk.SAFE, ""),
    ("state", {"timeout": "0"}, {}, Risk.SAFE, "connections idle for longer are closed"),
    ("state", {"port": "6379"}, {}, Risk.LOCKING, "clients have to connect there"),
    ("state", {"tls-protocols": "TLSv1.3"}, {}, Risk.SAFE, "for new connections"),
    ("state", {"slowlog-max-len": "1"}, {}, Risk.SAFE, ""),
    ("cache", {"databases": "16"}, {"keys": 7, "clients": 2}, Risk.LOCKING, "2 connections end, 7 keys are lost"),
    ("state", {"databases": "16"}, {"keys": 7, "clients": 2}, Risk.LOCKING, "2 connections end"),
]


@pytest.mark.parametrize(("instance", "settings", "figures", "risk", "words"), RISKS)
def test_a_change_names_what_it_costs(
    instance: str, settings: dict[str, str], figures: dict[str, int], risk: Risk, words: str
) -> None:
    instances = {name: live(name) for name in DECLARED.instances.instances}
    instances[instance] = replace(live(instance, **settings), **figures)  # type: ignore[arg-type]
    found = diff(DECLARED, instances, host(restart_allowed=True), PASSWORDS, {})
    (change,) = (change for change in found if change.kind in ("setting", "restart"))
    assert change.risk is risk
    assert change.summary.endswith(words if words else f'declared "{change.after}"') or f": {words}" in change.summary


def test_the_password_file_is_replaced_before_the_servers_change() -> None:
    path = Path("/etc/dbkeep/secrets/redis-admin")
    instances = {"state": live("state", timeout="0"), "cache": live("cache")}
    found = diff(DECLARED, instances, host(restart_allowed=False), PASSWORDS, {path: "old"})
    assert [change.kind for change in found][:2] == ["password file", "setting"]
    assert PASSWORDS["admin"] not in repr(found[0].as_json())
