"""The rate limiter on a real server: burst, refusal, recovery, and whose keys it may touch."""

from __future__ import annotations

import time

import pytest
import redis
from redis.exceptions import NoPermissionError


def limit(client: redis.Redis, key: str, *numbers: object) -> list[int]:
    return client.fcall("rate_limit", 1, key, *numbers)


def test_a_burst_is_allowed_then_refused_then_recovers(connect) -> None:
    api = connect("svc_api", "state")
    key = "rl:api:send:1"
    assert [limit(api, key, 3, 5, 1)[:2] for _ in range(3)] == [[1, 2], [1, 1], [1, 0]]
    allowed, remaining, retry_after, reset_after = limit(api, key, 3, 5, 1)
    assert (allowed, remaining) == (0, 0)
    assert 0 < retry_after <= 200
    assert 400 < reset_after <= 600
    assert 0 < api.pttl(key) <= 600
    time.sleep(retry_after / 1000 + 0.005)
    assert limit(api, key, 3, 5, 1)[0] == 1
    assert limit(api, key, 3, 5, 1)[0] == 0


def test_refused_calls_take_nothing(connect) -> None:
    api = connect("svc_api", "state")
    assert limit(api, "rl:api:x", 1, 1, 60)[0] == 1
    before = api.get("rl:api:x")
    assert [limit(api, "rl:api:x", 1, 1, 60)[0] for _ in range(5)] == [0] * 5
    assert api.get("rl:api:x") == before


def test_a_costly_call_takes_its_share(connect) -> None:
    api = connect("svc_api", "state")
    assert limit(api, "rl:api:x", 10, 10, 60, 8)[:2] == [1, 2]
    assert limit(api, "rl:api:x", 10, 10, 60, 3)[:2] == [0, 2]
    assert limit(api, "rl:api:x", 10, 10, 60, 2)[:2] == [1, 0]


def test_the_key_is_whole_again_when_it_expires(connect) -> None:
    api = connect("svc_api", "state")
    limit(api, "rl:api:x", 1, 10, 1)
    time.sleep(0.12)
    assert api.exists("rl:api:x") == 0


def test_a_key_from_a_clock_set_back_heals(connect) -> None:
    api = connect("svc_api", "state")
    api.set("rl:api:x", 10**16, ex=60)
    assert limit(api, "rl:api:x", 2, 10, 1)[2] <= 200


@pytest.mark.parametrize(
    "numbers", [(), (1,), (1, 1), (0, 1, 1), (1, -1, 1), (1, "1e9", 1), (1, "nan", 1), (1, 1, 1, 1, 1), (1, 1, 1, 2)]
)
def test_nonsense_is_refused(connect, numbers: tuple[object, ...]) -> None:
    with pytest.raises(redis.ResponseError, match="rate_limit"):
        limit(connect("svc_api", "state"), "rl:api:x", *numbers)


def test_a_limit_longer_than_the_keyspace_allows_is_refused(connect) -> None:
    with pytest.raises(redis.ResponseError, match="86400"):
        limit(connect("svc_api", "state"), "rl:api:x", 25, 1, 3600)


@pytest.mark.parametrize(
    ("user", "key"),
    [("svc_api", "rl:auth:1"), ("svc_api", "sess:1"), ("svc_auth", "rl:api:1"), ("svc_ws", "pres:1"), ("admin", None)],
)
def test_callers_stay_within_their_keys(connect, user: str, key: str | None) -> None:
    client = connect(user, "state")
    if key is None:
        assert limit(client, "rl:api:1", 1, 1, 1)[0] == 1
        return
    with pytest.raises((NoPermissionError, redis.ResponseError), match=r"(?i)no permission"):
        limit(client, key, 1, 1, 1)
