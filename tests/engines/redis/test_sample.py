"""A sample of live keys says what is wrong with them, bounded, and never what they are called."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from dbkeep import redis as engine
from dbkeep.redis import sample as samples

from .conftest import Connect

Sampled = Callable[..., dict[str, Any]]

TOKEN = "eyJhbGciOiJIUzI1NiJ9"
ID = "0193b2a4-7c1e-7000-8000-1234567890ab"
RIGHT = [
    ("state", ["SET", f"sess:{ID}", "1", "EX", "900"]),
    ("state", ["SET", f"rl:api:send:{ID}", "1", "PX", "1"]),
    ("state", ["SET", f"rl:auth:login:{ID}", "1", "EX", "86400"]),
    ("cache", ["SET", f"cache:{ID}", "1", "EX", "60"]),
]
# Instance, command, the prefix that is shown, and what is wrong.
WRONG = [
    ("state", ["SET", f"sess:{ID}", "1"], "sess:", {"without_expiry"}),
    ("state", ["SET", f"sess:{ID}", "1", "EX", "3601"], "sess:", {"expire_too_late"}),
    ("state", ["SET", f"pres:{ID}", "1", "EX", "60"], "pres:", {"of_wrong_type"}),
    ("state", ["RPUSH", f"cache:{ID}", "1"], "cache:", {"of_wrong_type", "without_expiry", "on_wrong_instance"}),
    ("cache", ["SET", f"sess:{ID}", "1", "EX", "60"], "sess:", {"on_wrong_instance"}),
    ("cache", ["SET", f"session:{ID}", "1", "EX", "60"], "session:", {"undeclared"}),
    ("state", ["SET", f"rl:{ID}", "1", "EX", "60"], "rl:", {"undeclared"}),
    ("state", ["SET", f"{ID}:sess:", "1", "EX", "60"], "(no prefix)", {"undeclared"}),
    ("state", ["SET", TOKEN, "1"], "(no prefix)", {"undeclared", "without_expiry"}),
    ("state", ["SET", f"{TOKEN}:x", "1", "EX", "60"], "(no prefix)", {"undeclared"}),
    ("state", ["SET", b"\xff\x00:x", "1", "EX", "60"], "(no prefix)", {"undeclared"}),
]


@pytest.fixture
def sampled(connect: Connect, declared: engine.Declared) -> Sampled:
    def take(instance: str, **bounds: Any) -> dict[str, Any]:
        found = samples.sample(connect("admin", instance), instance, declared.keyspaces.keyspaces, **bounds)
        assert TOKEN not in json.dumps(found)
        assert ID not in json.dumps(found)
        return found

    return take


def problems(found: dict[str, Any], prefix: str) -> set[str]:
    return {name for name, number in found["prefixes"][prefix].items() if number and name != "keys"}


def test_what_the_services_write_is_right(connect: Connect, sampled: Sampled) -> None:
    for instance, command in RIGHT:
        connect("admin", instance).execute_command(*command)  # type: ignore[no-untyped-call]
    for instance in ("state", "cache"):
        found = sampled(instance)
        assert all(problems(found, prefix) == set() for prefix in found["prefixes"])
        assert found["sampled"] > 0


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong[2]} {'+'.join(sorted(wrong[3]))}")
def test_every_misfit_is_counted_and_not_named(
    connect: Connect, sampled: Sampled, wrong: tuple[str, list[Any], str, set[str]]
) -> None:
    instance, command, prefix, expected = wrong
    for right_instance, right in RIGHT:
        connect("admin", right_instance).execute_command(*right)  # type: ignore[no-untyped-call]
    connect("admin", instance).execute_command(*command)  # type: ignore[no-untyped-call]
    found = sampled(instance)
    assert problems(found, prefix) == expected
    assert all(problems(found, other) == set() for other in found["prefixes"] if other != prefix)


def fill(client: redis.Redis, number: int) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for index in range(number):
            pipeline.set(f"sess:{index}", "", ex=600)
        pipeline.execute()


def test_a_sample_is_bounded_by_keys_and_by_time(
    connect: Connect, sampled: Sampled, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(connect("admin", "state"), 20000)
    found = sampled("state", keys=2000, seconds=300)
    assert found["all"] == 20000
    assert 1000 <= found["sampled"] <= 2000 + samples.BATCH
    started = time.monotonic()
    assert sampled("state", seconds=0) == {"sampled": 0, "all": 20000, "prefixes": {}}
    assert sampled("state", keys=10**9, seconds=0.2)["sampled"] > 0
    assert time.monotonic() - started < 0.2 + 5
    # Every name counts once, whichever way it was come upon.
    monkeypatch.setattr(samples, "BATCH", 100)
    assert sampled("state", keys=10**6, seconds=300)["prefixes"]["sess:"]["keys"] == 20000


def test_what_scan_comes_to_last_is_seen_too(connect: Connect, sampled: Sampled) -> None:
    """By SCAN alone the same keys would be looked at every time, and the last ones never."""
    client = connect("admin", "state")
    fill(client, 20000)
    last = list(client.scan_iter(count=1000))[-100:]
    for key in last:
        client.persist(key)
    assert any(problems(sampled("state", keys=4000, seconds=300), "sess:") for _ in range(20))


def test_an_instance_without_keys_has_nothing_wrong(sampled: Sampled) -> None:
    assert sampled("cache") == {"sampled": 0, "all": 0, "prefixes": {}}
