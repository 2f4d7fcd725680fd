"""The rate limiter on a real server: burst, refusal, recovery, two callers at once, and who may call what."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.exceptions import NoPermissionError

from dbkeep import redis as engine

from .conftest import Connect

KEY = "rl:api:test:1"


def limit(client: redis.Redis, key: str, *numbers: object) -> int:
    """Milliseconds to wait; 0 for a call that is allowed."""
    wait: int = client.fcall("rate_limit", 1, key, *numbers)
    return wait


def test_a_burst_is_allowed_then_refused_then_recovers(connect: Connect) -> None:
    api, admin = connect("svc_api", "state"), connect("admin", "state")
    assert [limit(api, KEY, 3, 5, 1) for _ in range(3)] == [0, 0, 0]
    wait = limit(api, KEY, 3, 5, 1)
    assert 0 < wait <= 200
    assert 400 < admin.pttl(KEY) <= 600
    time.sleep(wait / 1000 + 0.005)
    assert limit(api, KEY, 3, 5, 1) == 0
    assert limit(api, KEY, 3, 5, 1) > 0


def test_callers_at_once_share_one_burst(connect: Connect) -> None:
    """Also when half of them take two at a time: not one more than the burst is given out."""
    clients = [connect("svc_api", "state") for _ in range(8)]

    def calls(number: int) -> int:
        cost = 1 + number % 2
        return sum(cost for _ in range(50) if limit(clients[number], KEY, 100, 1, 600, cost) == 0)

    with ThreadPoolExecutor(len(clients)) as threads:
        taken = sum(threads.map(calls, range(len(clients))))
    assert taken == 100


def test_refused_calls_take_nothing(connect: Connect) -> None:
    api = connect("svc_api", "state")
    assert limit(api, KEY, 1, 1, 60) == 0
    before = api.get(KEY)
    assert all(limit(api, KEY, 1, 1, 60) for _ in range(5))
    assert api.get(KEY) == before


def test_the_key_is_gone_when_the_limit_is_whole_again(connect: Connect) -> None:
    limit(connect("svc_api", "state"), KEY, 1, 10, 1)
    time.sleep(0.12)
    assert connect("admin", "state").exists(KEY) == 0


@pytest.mark.parametrize(
    "numbers", [(), (1,), (1, 1), (0, 1, 1), (1, -1, 1), (1, "1e9", 1), (1, "nan", 1), (1, 1, 1, 1, 1), (1, 1, 1, 2)]
)
def test_nonsense_is_refused(connect: Connect, numbers: tuple[object, ...]) -> None:
    with pytest.raises(redis.ResponseError, match="rate_limit"):
        limit(connect("svc_api", "state"), KEY, *numbers)


def test_a_limit_may_not_outlive_its_keyspace(connect: Connect, declared: engine.Declared) -> None:
    (keyspace,) = (k for k in declared.keyspaces.keyspaces if KEY.startswith(k.prefix))
    seconds = keyspace.ttl_seconds.maximum
    client = connect("svc_api", "state")
    assert limit(client, KEY, seconds, 1, 1) == 0
    with pytest.raises(redis.ResponseError, match=f"longer than {seconds} s"):
        limit(client, KEY, seconds + 1, 1, 1)


@pytest.mark.parametrize(
    ("user", "key"),
    [
        *(("svc_api", key) for key in ("rl:auth:1", "sess:1", "pres:1", "cache:1")),
        *(("svc_auth", key) for key in ("rl:api:1", "sess:1")),
        *(("svc_ws", "pres:1"), ("chat_monitor", KEY), ("chat_audit", KEY)),
    ],
)
def test_callers_stay_within_their_keys(connect: Connect, user: str, key: str) -> None:
    with pytest.raises(NoPermissionError):
        limit(connect(user, "state"), key, 1, 1, 1)


@pytest.mark.parametrize("user", ["svc_api", "svc_auth"])
def test_nothing_else_scripted_runs(connect: Connect, user: str) -> None:
    """Not even a function that somebody loaded beside the limiter."""
    key = f"rl:{user.removeprefix('svc_')}:1"
    body = "{function_name='rogue', callback=function() return 1 end, flags={'no-writes'}}"
    code = f"#!lua name=rogue\nredis.register_function{body}"
    admin, client = connect("admin", "state"), connect(user, "state")
    admin.function_load(code)
    try:
        assert limit(client, key, 1, 1, 1) == 0
        for attempt in (
            ["FCALL", "rogue", "0"],
            ["FCALL", "rogue", "1", key],
            ["FCALL_RO", "rogue", "1", key],
            ["FCALL_RO", "rate_limit", "1", key, "1", "1", "1"],
            ["EVAL", "return 1", "0"],
            ["EVAL_RO", "return 1", "0"],
            ["EVALSHA", "0" * 40, "0"],
            ["SCRIPT", "LOAD", "return 1"],
            ["FUNCTION", "LOAD", "REPLACE", code],
            ["FUNCTION", "DELETE", "ratelimit"],
            ["FUNCTION", "FLUSH"],
            ["FUNCTION", "RESTORE", "x"],
            ["FUNCTION", "DUMP"],
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*attempt)  # type: ignore[no-untyped-call]
    finally:
        admin.function_delete("rogue")


@pytest.mark.parametrize("numbers", [(3, 5, 1), (3, 7, 1)], ids=["whole milliseconds", "parts of one"])
def test_what_somebody_else_wrote_holds_for_one_burst_at_most(connect: Connect, numbers: tuple[int, ...]) -> None:
    """A key that lives too long comes from a clock that was set back or from a hand, one without an end from a hand."""
    api, admin = connect("svc_api", "state"), connect("admin", "state")
    api.set(KEY, "not a number", ex=3600)
    assert 0 < limit(api, KEY, *numbers) <= 200
    admin.persist(KEY)
    assert limit(api, KEY, *numbers) == 0
    assert 0 < admin.pttl(KEY) <= 200
