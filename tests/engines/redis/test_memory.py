"""Eviction and persistence are tried under pressure: the cache forgets, the state refuses."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from dbkeep import redis as engine
from dbkeep.sandbox.redis import start
from dbkeep.settings import RedisSettings

from .conftest import Connect

VALUE = "x" * 1000


def fill(client: redis.Redis, prefix: str, number: int) -> None:
    for first in range(0, number, 200):
        with client.pipeline(transaction=False) as pipeline:
            for index in range(first, first + 200):
                pipeline.set(f"{prefix}{index}", VALUE, ex=600)
            pipeline.execute()


def test_the_cache_evicts_and_state_loses_nothing(connect: Connect, settings: RedisSettings) -> None:
    auth, api, monitor = connect("svc_auth", "state"), connect("svc_api", "cache"), connect("chat_monitor", "cache")
    for index in range(100):
        auth.set(f"sess:{index}", "user", ex=600)
    limit = monitor.info("memory")["maxmemory"]
    fill(api, "cache:", 3 * limit // 1000)
    assert monitor.info("stats")["evicted_keys"] > 0
    assert monitor.info("memory")["used_memory"] < limit * 1.2
    counts = engine.counts(settings)
    assert counts["state/sess:"] == 100
    assert 0 < counts["cache/cache:"] < 3 * limit // 1000


def test_a_full_state_refuses_writes_and_evicts_nothing(connect: Connect) -> None:
    auth, monitor = connect("svc_auth", "state"), connect("chat_monitor", "state")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        fill(auth, "sess:", 3 * monitor.info("memory")["maxmemory"] // 1000)
    assert monitor.info("stats")["evicted_keys"] == 0
    assert auth.get("sess:0") == VALUE


def test_only_state_is_on_disk(connect: Connect, settings: RedisSettings) -> None:
    connect("svc_auth", "state").set("sess:1", "user", ex=600)
    connect("svc_api", "cache").set("cache:1", "copy", ex=600)
    state, cache = (settings.instances[name].socket.parent for name in ("state", "cache"))
    assert (state / "appendonlydir").is_dir()
    assert not [path.name for path in cache.iterdir() if path.suffix in (".rdb", ".aof") or path.is_dir()]


def test_state_comes_back_from_its_files(connect: Connect, settings: RedisSettings, tmp_path: Path) -> None:
    connect("svc_auth", "state").set("sess:1", "user", ex=600)
    admin = connect("admin", "state")
    admin.bgrewriteaof()
    while admin.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.02)
    with start(tmp_path, data={"state": settings.instances["state"].socket.parent / "."}) as copy:
        assert engine.counts(copy) == {"state/sess:": 1}
