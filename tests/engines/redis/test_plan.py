"""What an apply does beside mending single breaks: from empty, in waiting, in rotation, and what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from dbkeep import redis as engine
from dbkeep.plan import Change, Plan, Risk
from dbkeep.settings import RedisSettings

from .conftest import Connect, password_file

Planned = Callable[[], Plan]
Applied = Callable[[], tuple[Change, ...]]


@pytest.fixture
def planned(settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str]) -> Planned:
    return lambda: engine.plan(settings, declared, passwords)


@pytest.fixture
def applied(settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str]) -> Applied:
    return lambda: engine.apply(settings, declared, passwords, allow_destructive=True)


def test_apply_from_empty_then_plan_is_empty(first_plan: list[str], planned: Planned, settings: RedisSettings) -> None:
    assert "acl user state svc_api" in first_plan
    assert "acl user cache svc_api" in first_plan
    assert "acl user cache svc_auth" not in first_plan
    assert "function library state ratelimit" in first_plan
    # Both files end with the password that one of them had: a host has one.
    assert len([line for line in first_plan if line.startswith("password file")]) == 1
    assert not planned()
    assert engine.version(settings)[0].isdigit()


def test_users_that_are_not_in_the_acl_file_are_drift(
    planned: Planned, applied: Applied, settings: RedisSettings
) -> None:
    file = settings.instances["cache"].acl_file
    assert file is not None
    file.write_text(file.read_text().replace("user svc_api on", "user svc_api off"))
    (change,) = planned()
    assert (change.kind, change.target) == ("acl file", "cache")
    assert change.summary == "differs in svc_api: the next start would read that"
    applied()
    assert "user svc_api on" in file.read_text()


def test_a_static_setting_waits_for_a_restart_and_keeps_nothing_else_waiting(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], connect: Connect
) -> None:
    instances = declared.instances.model_copy(update={"settings": {**declared.instances.settings, "databases": 3}})
    changed = declared.model_copy(update={"instances": instances})
    connect("admin", "state").execute_command("ACL", "DELUSER", "svc_ws")  # type: ignore[no-untyped-call]
    made = engine.apply(settings, changed, passwords)
    assert [(change.kind, change.target) for change in made] == [("acl user", "state svc_ws")]
    plan = engine.plan(settings, changed, passwords)
    assert [(change.kind, change.target) for change in plan] == [("restart", "state"), ("restart", "cache")]
    assert all(change.summary.startswith('databases is "1", declared "3": ') for change in plan)
    assert all("redis_restart_allowed=true" in (change.waits_for or "") for change in plan)


def test_what_drops_keys_or_refuses_writes_waits_for_permission(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], connect: Connect
) -> None:
    """A smaller share of the memory than is used already, on both instances."""
    for name in ("state", "cache"):
        client = connect("admin", name)
        with client.pipeline(transaction=False) as pipeline:
            for index in range(4000):
                pipeline.set(f"probe:{index}", "x" * 1000, ex=60)
            pipeline.execute()
    less = {
        name: instance.model_copy(update={"memory_share": 0.025})
        for name, instance in declared.instances.instances.items()
    }
    instances = declared.instances.model_copy(update={"instances": less})
    changed = declared.model_copy(update={"instances": instances})
    found = {change.target: change for change in engine.plan(settings, changed, passwords)}
    assert {change.risk for change in found.values()} == {Risk.DESTRUCTIVE}
    assert re.search(r'declared "2097152": writes are refused: \d+ MiB are used$', found["state maxmemory"].summary)
    assert re.search(r'declared "2097152": keys are evicted: \d+ MiB are used$', found["cache maxmemory"].summary)
    assert engine.apply(settings, changed, passwords) == ()
    assert len(engine.apply(settings, changed, passwords, allow_destructive=True)) == 2
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        connect("admin", "state").set("probe:more", "x", ex=60)
    assert connect("admin", "cache").info("stats")["evicted_keys"] > 0
    assert connect("admin", "state").dbsize() == 4000
    engine.apply(settings, declared, passwords)


def test_the_configuration_file_is_brought_up_to_date(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "redis-state.conf"
    file.write_text("maxmemory 1\n")
    file.chmod(0o640)
    instances = {**settings.instances, "state": settings.instances["state"].model_copy(update={"config_file": file})}
    host = settings.model_copy(update={"instances": instances})
    (change,) = engine.apply(host, declared, passwords)
    assert (change.kind, change.target) == ("configuration file", str(file))
    assert "maxmemory-policy noeviction\n" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert not engine.plan(host, declared, passwords)


def test_no_password_or_digest_is_ever_shown(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str]
) -> None:
    changed = {user: f"other-{password}" for user, password in passwords.items()}
    shown = repr(engine.plan(settings, declared, changed).as_json()) + repr(engine.plan(settings, declared, changed))
    connect_users = redis.Redis(
        unix_socket_path=str(settings.instances["state"].socket),
        username="admin",
        password=password_file(settings.instances["state"]).read_text().strip(),
    )
    live = repr(connect_users.acl_list())
    connect_users.close()
    for password in (*passwords.values(), *changed.values()):
        assert password not in shown
    digests = {word[1:] for word in live.replace("'", " ").split() if word.startswith("#")}
    assert len(digests) == len(passwords)
    assert not any(digest in shown for digest in digests)
