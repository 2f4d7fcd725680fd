"""The rate limiter against a model: a bucket that fills steadily, in exact arithmetic, on a clock that the test sets.

The library runs on a real server as it is declared, but for the time: a key's time to live is counted from a clock that
is a key too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from dbkeep import redis as engine
from dbkeep.redis.connect import connect
from dbkeep.sandbox.redis import start

# COUNT in PERIOD_SECONDS: of whole milliseconds, of parts of one, and of less than one.
RATES = st.sampled_from([(1, 1), (1, 60), (3, 10), (7, 60), (60, 4320), (300, 2), (3000, 1), (99_999_999, 7)])
VIRTUAL = """
local function look_up(key)
  local until_ = redis.call('HGET', 'until', key)
  local left = until_ and until_ - redis.call('GET', 'clock') or -2
  return left < 0 and -2 or left
end
local function live(key, milliseconds)
  redis.call('HSET', 'until', key, string.format('%.0f', redis.call('GET', 'clock') + milliseconds))
end
local function store(key, value, milliseconds)
  redis.call('SET', key, value)
  live(key, milliseconds)
end
"""
CALLS = {
    "redis.call('PTTL', key)": "look_up(key)",
    "redis.call('PEXPIRE', key, lives)": "live(key, lives)",
    "redis.call('SET', key, lives * count - after, 'PX', lives)": "store(key, lives * count - after, lives)",
}


@dataclass
class Bucket:
    """A bucket of `size` tokens that will be full at `full_at`; one comes back every `interval` milliseconds."""

    size: int
    interval: Fraction
    full_at: Fraction = Fraction(0)

    def take(self, now: int, cost: int) -> tuple[int, int]:
        """Return the milliseconds until `cost` tokens are there, 0 if they are taken at `now`, and until it is full."""
        # Before a clock was set back it may have been fuller than now; it is never emptier than empty.
        content = min(max(self.size - (self.full_at - now) / self.interval, Fraction(0)), Fraction(self.size))
        allowed = content >= cost
        if allowed:
            content -= cost
            self.full_at = now + (self.size - content) * self.interval
        missing = Fraction(0) if allowed else cost - content
        return math.ceil(missing * self.interval), math.ceil((self.size - content) * self.interval)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, declared: engine.Declared) -> Iterator[redis.Redis]:
    (library,) = (library for library in declared.libraries if library.name == "ratelimit")
    first, code = library.code.split("\n", maxsplit=1)
    for real, virtual in CALLS.items():
        assert code.count(real) == 1
        code = code.replace(real, virtual)
    with (
        start(tmp_path_factory.mktemp("model")) as started,
        connect("state", started.instances["state"]) as client,
    ):
        client.function_load(first + VIRTUAL + code)
        yield client


def call(client: redis.Redis, now: int, *numbers: int) -> tuple[int, int]:
    """Return what the limiter answers at `now`, and for how many milliseconds its key lives then."""
    with client.pipeline() as pipeline:
        pipeline.set("clock", now)
        pipeline.fcall("rate_limit", 1, "key", *numbers)
        pipeline.hget("until", "key")
        _, wait, until = pipeline.execute()
    return wait, int(until) - now


@settings(deadline=None, max_examples=300)
@given(data=st.data(), burst=st.integers(1, 20), rate=RATES, begin=st.integers(0, 4 * 10**12))
def test_every_answer_is_the_models(
    server: redis.Redis, data: st.DataObject, burst: int, rate: tuple[int, int], begin: int
) -> None:
    server.flushall()
    count, period = rate
    interval = Fraction(period * 1000, count)
    bucket, now, full = Bucket(burst, interval), begin, math.ceil(burst * interval)
    # To the token, next to it, anywhere, and backwards.
    steps = st.one_of(
        st.just(0),
        st.sampled_from([math.floor(interval), math.ceil(interval), math.ceil(interval) + 1, full, 1]),
        st.integers(0, 2 * full),
        st.integers(-full, -1),
    )
    for step, cost in data.draw(st.lists(st.tuples(steps, st.integers(1, burst)), max_size=25)):
        now = max(now + step, 0)
        wait, lives = call(server, now, burst, count, period, cost)
        # A clock that was set back leaves a refused caller's key too long: no more than a whole burst of it counts.
        assert (wait, min(lives, full)) == bucket.take(now, cost)


@pytest.mark.parametrize(("count", "period"), [(12, 60), (7, 60), (300, 7)])
def test_in_the_long_run_exactly_the_rate_is_allowed(server: redis.Redis, count: int, period: int) -> None:
    """Asked twice as often as allowed, for a thousand times the period: no rounding adds up."""
    server.flushall()
    step, seconds = period * 1000 // (2 * count), min(1000 * period, 4000 * period // count)
    allowed = sum(call(server, now, 5, count, period)[0] == 0 for now in range(0, seconds * 1000, step))
    assert abs(allowed - (5 + seconds * count // period)) <= 1
