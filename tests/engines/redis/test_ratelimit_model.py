"""The rate limiter against a model: a bucket that fills steadily, in exact arithmetic, on a clock that the test sets.

The library runs on a real server as it is declared, but for the time: that comes from a list instead of TIME.
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

SECOND = 1_000_000
# Whole seconds, so that no key can really expire while an example runs.
INTERVALS = st.sampled_from([(1, 1), (1, 60), (3, 10), (7, 60), (60, 86400 // 20), (300, 2)])


@dataclass
class Bucket:
    """A bucket of `size` tokens that will be full at `full_at`; one comes back every `interval` microseconds."""

    size: int
    interval: int
    full_at: Fraction = Fraction(0)

    def take(self, now: int, cost: int) -> list[int]:
        """Return what the limiter must answer at `now`: allowed, remaining, milliseconds until enough, until full."""
        # Before a clock was set back it may have been fuller than now; it is never emptier than empty.
        content = min(max(self.size - (self.full_at - now) / self.interval, Fraction(0)), Fraction(self.size))
        allowed = content >= cost
        if allowed:
            content -= cost
            self.full_at = now + (self.size - content) * self.interval
        missing = Fraction(0) if allowed else cost - content
        return [
            int(allowed),
            math.floor(content),
            math.ceil(missing * self.interval / 1000),
            math.ceil((self.size - content) * self.interval / 1000),
        ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, declared: engine.Declared) -> Iterator[redis.Redis]:
    (library,) = (library for library in declared.libraries if library.name == "ratelimit")
    clock = library.code.replace("redis.call('TIME')", "redis.call('LRANGE', 'clock', 0, 1)")
    assert clock != library.code
    with (
        start(tmp_path_factory.mktemp("model")) as started,
        connect("state", started.instances["state"]) as client,
    ):
        client.function_load(clock)
        yield client


def call(client: redis.Redis, now: int, *numbers: int) -> list[int]:
    with client.pipeline() as pipeline:
        pipeline.delete("clock")
        pipeline.rpush("clock", now // SECOND, now % SECOND)
        pipeline.fcall("rate_limit", 1, "key", *numbers)
        return pipeline.execute()[-1]


@settings(deadline=None, max_examples=300)
@given(data=st.data(), burst=st.integers(1, 20), rate=INTERVALS, begin=st.integers(0, 4 * 10**15))
def test_every_answer_is_the_models(
    server: redis.Redis, data: st.DataObject, burst: int, rate: tuple[int, int], begin: int
) -> None:
    server.delete("key")
    count, period = rate
    interval = math.ceil(period * SECOND / count)
    bucket, now = Bucket(burst, interval), begin
    # To the token, next to it, anywhere, and backwards.
    steps = st.one_of(
        st.just(0),
        st.just(interval),
        st.sampled_from([interval - 1, interval + 1, burst * interval, 1]),
        st.integers(0, 2 * burst * interval),
        st.integers(-burst * interval, -1),
    )
    for step, cost in data.draw(st.lists(st.tuples(steps, st.integers(1, burst)), max_size=25)):
        now = max(now + step, 0)
        assert call(server, now, burst, count, period, cost) == bucket.take(now, cost)
        left = server.pttl("key")
        assert left == -2 or left <= bucket.interval * bucket.size / 1000 + 1


def test_in_the_long_run_exactly_the_rate_is_allowed(server: redis.Redis) -> None:
    """Asked ten times as often as allowed, for an hour of the clock."""
    server.delete("key")
    allowed = sum(call(server, second * SECOND // 2, 5, 12, 60)[0] for second in range(2 * 3600))
    assert allowed == 5 + 12 * 60 - 1
