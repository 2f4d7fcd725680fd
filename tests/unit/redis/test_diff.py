"""The diff is pure: restarts only where they are allowed, once per instance, after the file they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbkeep.plan import Change, Risk
from dbkeep.redis import read_declared, users
from dbkeep.redis.acl import expected
from dbkeep.redis.diff import diff
from dbkeep.redis.inspect import LiveInstance
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
    present = directives(DECLARED, name, (7, 0, 15), {}, GIBIBYTE) | settings
    found = {user.name: user for user in expected(DECLARED, name, (7, 0, 15), PASSWORDS)}
    functions = DECLARED.instances.instances[name].functions
    return LiveInstance(
        version="7.0.15",
        users=found,
        settings=present,
        libraries={library.name: library.code for library in DECLARED.libraries if library.name in functions},
        saved_users=found,
        configuration_text=configuration_file(present),
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


def test_a_restart_is_refused_where_it_is_not_allowed() -> None:
    (restart,) = (change for change in changes(databases="16") if change.kind == "restart")
    assert restart.refused is not None
    assert "redis_restart=true" in restart.refused


@pytest.mark.parametrize(
    ("name", "value", "risk"),
    [
        ("appendonly", "no", Risk.REWRITING),
        ("maxmemory", "0", Risk.SAFE),
        ("maxmemory_policy", "allkeys-lru", Risk.SAFE),
        ("slowlog_max_len", "1", Risk.SAFE),
    ],
)
def test_risk_is_what_the_change_costs(name: str, value: str, risk: Risk) -> None:
    assert changes(**{name: value})[0].risk is risk


def test_what_starts_evicting_or_stops_writing_is_destructive() -> None:
    cache = live("cache", **{"maxmemory-policy": "noeviction", "appendonly": "yes"})
    found = diff(DECLARED, {"state": live("state"), "cache": cache}, host(restart_allowed=False), PASSWORDS, {})
    risks = {change.target: change.risk for change in found if change.kind == "setting"}
    assert risks == {"cache maxmemory-policy": Risk.DESTRUCTIVE, "cache appendonly": Risk.DESTRUCTIVE}


def test_the_password_file_is_replaced_before_the_servers_change() -> None:
    path = Path("/etc/dbkeep/secrets/redis-admin")
    instances = {"state": live("state", timeout="0"), "cache": live("cache")}
    found = diff(DECLARED, instances, host(restart_allowed=False), PASSWORDS, {path: "old"})
    assert [change.kind for change in found][:2] == ["password file", "setting"]
    assert PASSWORDS["admin"] not in repr(found[0].as_json())
