"""Break, plan names it, apply, plan is empty: for every kind of object."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from dbkeep import redis as engine
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.plan import ApplyError, Risk
from dbkeep.settings import RedisSettings


@pytest.fixture
def planned(settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str]):
    return lambda: engine.plan(settings, declared, passwords)


@pytest.fixture
def applied(settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str]):
    return lambda: engine.apply(settings, declared, passwords, allow_destructive=True)


def test_apply_from_empty_then_plan_is_empty(first_plan: list[str], planned, settings: RedisSettings) -> None:
    assert "acl user state svc_api" in first_plan
    assert "acl user cache svc_api" in first_plan
    assert "acl user cache svc_auth" not in first_plan
    assert "function library state ratelimit" in first_plan
    # Both files end with the password that one of them had: a host has one.
    assert len([line for line in first_plan if line.startswith("password file")]) == 1
    assert not planned()
    assert engine.version(settings)[0].isdigit()


BREAKS = [
    (["ACL", "SETUSER", "mallory", "on", "nopass", "~*", "+@all"], "acl user state mallory", "is not declared"),
    (["ACL", "DELUSER", "svc_ws"], "acl user state svc_ws", "is missing"),
    (["ACL", "SETUSER", "svc_api", "~sess:*"], "acl user state svc_api", "keys too many: ~sess:*"),
    (["ACL", "SETUSER", "svc_api", "&*"], "acl user state svc_api", "channels"),
    (["ACL", "SETUSER", "svc_api", "-zadd"], "acl user state svc_api", "commands missing: zadd"),
    (["ACL", "SETUSER", "svc_api", "+@dangerous"], "acl user state svc_api", "commands too many"),
    (["ACL", "SETUSER", "svc_api", "+client"], "acl user state svc_api", "commands too many: client"),
    (["ACL", "SETUSER", "svc_api", "(~* +@transaction)"], "acl user state svc_api", "selectors too many"),
    (["ACL", "SETUSER", "svc_api", "clearselectors"], "acl user state svc_api", "selectors missing"),
    (["ACL", "SETUSER", "svc_api", "off"], "acl user state svc_api", "is off"),
    (["ACL", "SETUSER", "svc_api", "nopass"], "acl user state svc_api", "needs no password"),
    (["ACL", "SETUSER", "svc_api", ">second"], "acl user state svc_api", "password differs"),
    (["ACL", "SETUSER", "svc_api", "skip-sanitize-payload"], "acl user state svc_api", "skips payload checks"),
    (["ACL", "SETUSER", "default", "on", "nopass", "+ping"], "acl user state default", "is on"),
    (["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"], "setting state maxmemory-policy", 'declared "noeviction"'),
    (["CONFIG", "SET", "maxmemory", "0"], "setting state maxmemory", 'is "0"'),
    (["CONFIG", "SET", "appendonly", "no"], "setting state appendonly", 'declared "yes"'),
    (["CONFIG", "SET", "save", ""], "setting state save", 'is ""'),
    (["CONFIG", "SET", "protected-mode", "no"], "setting state protected-mode", 'declared "yes"'),
    (["FUNCTION", "DELETE", "ratelimit"], "function library state ratelimit", "is missing"),
    (
        ["FUNCTION", "LOAD", "#!lua name=rogue\nredis.register_function('rogue', function() return 1 end)"],
        "function library state rogue",
        "is not declared",
    ),
    (
        [
            "FUNCTION",
            "LOAD",
            "REPLACE",
            "#!lua name=ratelimit\nredis.register_function('rate_limit', function() return 1 end)",
        ],
        "function library state ratelimit",
        "has other code",
    ),
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: " ".join(broken[0][:5]).partition("\n")[0])
def test_a_break_is_named_and_repaired(connect, planned, applied, broken) -> None:
    command, target, summary = broken
    connect("admin", "state").execute_command(*command)
    (change,) = planned()
    assert f"{change.kind} {change.target}" == target
    assert summary in change.summary
    assert applied() == (change,)
    assert not planned()


def test_users_that_are_not_in_the_acl_file_are_drift(planned, applied, settings) -> None:
    file = settings.instances["cache"].acl_file
    file.write_text(file.read_text().replace("user svc_api on", "user svc_api off"))
    (change,) = planned()
    assert (change.kind, change.target) == ("acl file", "cache")
    applied()
    assert "user svc_api on" in file.read_text()


def test_a_static_setting_is_refused_and_nothing_is_applied(settings, declared, passwords, connect) -> None:
    instances = declared.instances.model_copy(update={"settings": {**declared.instances.settings, "databases": 3}})
    changed = declared.model_copy(update={"instances": instances})
    plan = engine.plan(settings, changed, passwords)
    assert [(change.kind, change.target) for change in plan] == [("restart", "state"), ("restart", "cache")]
    assert all('databases is "1", declared "3"' in change.summary for change in plan)
    connect("admin", "state").execute_command("ACL", "DELUSER", "svc_ws")
    with pytest.raises(ApplyError, match="redis restart state: needs a restart, which is not allowed"):
        engine.apply(settings, changed, passwords)
    assert "svc_ws" not in connect("admin", "state").acl_users()
    engine.apply(settings, declared, passwords)


def test_a_setting_that_the_server_does_not_know_is_refused(settings, declared, passwords) -> None:
    instances = declared.instances.model_copy(update={"settings": {**declared.instances.settings, "maxmemry": 3}})
    plan = engine.plan(settings, declared.model_copy(update={"instances": instances}), passwords)
    assert {change.target for change in plan} == {"state maxmemry", "cache maxmemry"}
    assert all("has no such setting" in (change.refused or "") for change in plan)


def test_what_drops_keys_waits_for_permission(settings, declared, passwords, connect) -> None:
    connect("admin", "cache").config_set("maxmemory", 64 * 1024 * 1024)
    connect("admin", "state").execute_command("ACL", "SETUSER", "mallory", "on", "nopass", "~*", "+@all")
    plan = engine.plan(settings, declared, passwords)
    assert {(change.target, change.risk) for change in plan} == {
        ("cache maxmemory", Risk.DESTRUCTIVE),
        ("state mallory", Risk.DESTRUCTIVE),
    }
    assert engine.apply(settings, declared, passwords) == ()
    assert len(engine.apply(settings, declared, passwords, allow_destructive=True)) == 2


def test_the_configuration_file_is_brought_up_to_date(settings, declared, passwords, tmp_path: Path) -> None:
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


def test_no_password_or_digest_is_ever_shown(settings, declared, passwords) -> None:
    changed = {user: f"other-{password}" for user, password in passwords.items()}
    shown = repr(engine.plan(settings, declared, changed).as_json()) + repr(engine.plan(settings, declared, changed))
    connect_users = redis.Redis(
        unix_socket_path=str(settings.instances["state"].socket),
        username="admin",
        password=settings.instances["state"].password_file.read_text().strip(),
    )
    live = repr(connect_users.acl_list())
    connect_users.close()
    for password in (*passwords.values(), *changed.values()):
        assert password not in shown
    digests = {word[1:] for word in live.replace("'", " ").split() if word.startswith("#")}
    assert len(digests) == len(passwords)
    assert not any(digest in shown for digest in digests)


@pytest.mark.parametrize("password", ["", "short", "a" * 64])
def test_a_missing_or_weak_password_is_refused_by_name(settings, declared, passwords, password) -> None:
    with pytest.raises(UsageError, match=r"the password of svc_ws .*run dbkeep init"):
        engine.plan(settings, declared, {**passwords, "svc_ws": password})


def test_a_server_that_is_not_there_is_one_line(settings, declared, passwords, tmp_path: Path) -> None:
    gone = settings.instances["state"].model_copy(update={"socket": tmp_path / "redis.sock"})
    host = settings.model_copy(update={"instances": {**settings.instances, "state": gone}})
    with pytest.raises(DbkeepError, match=r"redis state: .*redis\.sock: .*is redis-server@state running\?"):
        engine.plan(host, declared, passwords)


def test_an_instance_that_only_one_side_knows_is_refused(settings, declared, passwords) -> None:
    host = settings.model_copy(update={"instances": {"state": settings.instances["state"]}})
    with pytest.raises(UsageError, match="the host has the instances state, declared are state, cache"):
        engine.plan(host, declared, passwords)
