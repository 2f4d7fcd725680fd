"""What each service may do is tried, not read."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from dbkeep.settings import RedisSettings

from .conftest import Connect

SESSION = "sess:0123"


def test_sessions_belong_to_svc_auth(connect: Connect) -> None:
    auth, api, ws = (connect(user, "state") for user in ("svc_auth", "svc_api", "svc_ws"))
    assert auth.set(SESSION, "user", ex=60)
    assert api.get(SESSION) == "user"
    for refused in (
        lambda: api.set(SESSION, "mallory", ex=60),
        lambda: api.delete(SESSION),
        lambda: api.getdel(SESSION),
        lambda: api.getex(SESSION, ex=1),
        lambda: api.expire(SESSION, 1),
        lambda: ws.get(SESSION),
        lambda: auth.set("pres:1", "x", ex=60),
    ):
        with pytest.raises(NoPermissionError):
            refused()
    assert auth.get(SESSION) == "user"


FORBIDDEN = [
    *("RANDOMKEY", "SCAN 0", "KEYS *", "DBSIZE", "OBJECT ENCODING pres:1", "DUMP pres:1", "SORT pres:1"),
    *("EVAL return\\ 1 0", "SCRIPT LOAD x", "FUNCTION LOAD x", "FUNCTION DELETE ratelimit", "FUNCTION LIST"),
    *("CONFIG GET *", "CONFIG SET maxmemory 0", "ACL LIST", "ACL SETUSER x", "MODULE LIST", "CLIENT LIST"),
    *("FLUSHALL", "FLUSHDB", "REPLICAOF NO ONE", "MONITOR", "RENAME pres:1 pres:2", "COPY pres:1 pres:2"),
    *("RESTORE pres:1 0 x", "MIGRATE h 1 pres:1 0 1", "SAVE", "BGREWRITEAOF", "SHUTDOWN", "DEBUG SLEEP 0"),
]


@pytest.mark.parametrize("user", ["svc_auth", "svc_api", "svc_ws"])
def test_services_cannot(connect: Connect, user: str) -> None:
    client = connect(user, "state")
    for command in FORBIDDEN:
        with pytest.raises(redis.ResponseError, match=r"no permissions to run|command not allowed"):
            client.execute_command(*shlex.split(command))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("user", ["chat_monitor", "chat_audit"])
@pytest.mark.parametrize("instance", ["state", "cache"])
def test_observers_read_figures_and_no_key(connect: Connect, user: str, instance: str) -> None:
    client = connect(user, instance)
    assert client.info("memory")["maxmemory"] > 0
    for command in (
        ["GET", "cache:1"],
        ["SET", "cache:1", "x"],
        ["SCAN", "0"],
        ["RANDOMKEY"],
        ["PUBLISH", "conv:1", "x"],
    ):
        with pytest.raises(NoPermissionError):
            client.execute_command(*command)  # type: ignore[no-untyped-call]


# Its own keys and its own commands, but not these on those: each grant stands for itself.
CROSSED = [
    ("svc_auth", "DEL rl:auth:1"),
    ("svc_auth", "PEXPIRE sess:1 1"),
    ("svc_auth", "PTTL sess:1"),
    ("svc_api", "GET pres:1"),
    ("svc_api", "SET pres:1 x"),
    ("svc_api", "SET sess:1 x"),
    ("svc_api", "ZADD rl:api:1 1 x"),
    ("svc_api", "EXPIRE rl:api:1 1"),
    ("svc_api", "EXPIRE sess:1 1"),
    ("svc_ws", "PUBLISH ctl:session-revoked x"),
    ("svc_ws", "SUBSCRIBE ctl:other"),
]


@pytest.mark.parametrize(("user", "command"), CROSSED)
def test_the_commands_of_one_grant_do_not_work_on_the_keys_of_another(
    connect: Connect, user: str, command: str
) -> None:
    with pytest.raises(NoPermissionError):
        connect(user, "state").execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_channels_are_confined(connect: Connect) -> None:
    api, auth = connect("svc_api", "state"), connect("svc_auth", "state")
    with connect("svc_ws", "state").pubsub() as listener:  # type: ignore[no-untyped-call]
        listener.subscribe("conv:7")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        assert api.publish("conv:7", "new") == 1
        assert listener.get_message(timeout=5)["data"] == "new"
    refused: Callable[[], object]
    for refused in (lambda: api.publish("ctl:session-revoked", "x"), lambda: auth.publish("conv:7", "x")):
        with pytest.raises(NoPermissionError):
            refused()


@pytest.mark.parametrize("credentials", [{}, {"username": "svc_api", "password": "x" * 43}, {"password": "x" * 43}])
def test_nobody_enters_without_name_and_password(settings: RedisSettings, credentials: dict[str, Any]) -> None:
    for instance in settings.instances.values():
        client = redis.Redis(unix_socket_path=str(instance.socket), retry=Retry(NoBackoff(), 0), **credentials)
        with client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_admin_cannot_unlock_protected_configuration(connect: Connect) -> None:
    for directive, value in (("dir", "/"), ("dbfilename", "x"), ("enable-debug-command", "yes")):
        with pytest.raises(redis.ResponseError, match=r"protected config|immutable config"):
            connect("admin", "state").config_set(directive, value)
