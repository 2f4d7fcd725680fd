"""Keys are counted within the server by the very words that a sample shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import redis

from dbkeep.redis.inspect import count_keys, sample_keys
from dbkeep.redis.sample import shown_prefix

NAMES = [
    *(f"sess:{number}" for number in range(3000)),
    *("rl:api:send:1", "a-b_c:1", "dbkeep:point", "x", ":x", "Sess:1", "1a:x", "sess", "a", "-a:x", "", "a b:x", "é:x"),
    *("a" * 16 + ":x", "a" * 17 + ":x", "a" * 40, "sess::x", "a:b:c"),
]


def test_keys_are_counted_by_the_words_that_a_sample_shows(connect: Callable[..., redis.Redis]) -> None:
    client = connect("admin", "state")
    client.flushall()
    for name in NAMES:
        client.set(name, "x", ex=600)
    assert count_keys(client) == Counter(map(shown_prefix, NAMES))
    client.flushall()


def test_a_sample_ends_when_it_has_enough_and_says_whether_it_has_all(connect: Callable[..., redis.Redis]) -> None:
    client = connect("admin", "state")
    client.flushall()
    client.mset({f"sess:{number}": "x" for number in range(5000)})
    found, whole = sample_keys(client, 2000)
    assert not whole
    assert 2000 <= found["sess:"] < 4000
    assert sample_keys(client, 5001) == ({"sess:": 5000}, True)
    client.flushall()
