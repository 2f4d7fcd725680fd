"""The API's own client of Redis before a real server that stops at any moment: bounded, and never another's answer."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_api.configuration import read_configuration, read_credentials
from chat_api.stores.keyspaces import PROFILES, Failure
from chat_api.stores.redis import Client, RedisClients, Unavailable
from dbkeep.redis.connect import connect

from .test_redis_failures import frozen, instance_of, process_of

SECONDS = 0.3
POOL = 4
CALLS = 100
# A call may only be late because this machine was: the time-out is far from this.
LATE = 5.0
GUARDED = replace(PROFILES, fails=Failure.CLOSED)


@pytest.fixture
def clients(environment: dict[str, str], credentials: Path) -> Any:
    """Return a context manager that gives clients with a small pool and a short time-out."""
    bounds = {"CHAT_API_REDIS_TIMEOUT_SECONDS": str(SECONDS), "CHAT_API_REDIS_POOL_SIZE": str(POOL)}

    @asynccontextmanager
    async def opened() -> AsyncIterator[RedisClients]:
        made = RedisClients(read_configuration({**environment, **bounds}), read_credentials(credentials))
        try:
            yield made
        finally:
            await made.close()

    return opened


async def get(clients: RedisClients, number: int, use: Any = PROFILES) -> str | None:
    async def ask(client: Client) -> Any:
        return await client.get(PROFILES.key(number))

    answer: str | None = await clients.run(use, ask, None)
    return answer


async def put(clients: RedisClients, number: int) -> None:
    """Each key holds its own number."""
    key = PROFILES.key(number)
    while not await clients.run(PROFILES, lambda client: client.set(key, str(number), ex=600), None):
        await asyncio.sleep(0.05)


def test_more_callers_than_connections_wait_their_turn(servers: Any, clients: Any) -> None:
    async def ask() -> list[str | None]:
        async with clients() as opened:
            await put(opened, 0)
            with connect("cache", instance_of(servers, "redis_cache")) as agent:
                before = {entry["id"] for entry in agent.client_list()}
                waiting = asyncio.gather(*(get(opened, 0) for _ in range(CALLS)))
                answers = await waiting
                made = {entry["id"] for entry in agent.client_list()} - before
            assert len(made) <= POOL
            return answers

    answers = asyncio.run(ask())
    # On a slow machine the last in the queue may find that their time is up; nobody waits for ever.
    assert answers.count("0") >= CALLS / 2
    assert set(answers) <= {"0", None}


@pytest.mark.parametrize("use", [PROFILES, GUARDED], ids=["open", "closed"])
def test_no_caller_waits_longer_than_the_time_out(servers: Any, clients: Any, use: Any) -> None:
    """Whether it waits for the pool, a connection, its handshake or an answer."""

    async def ask() -> list[float]:
        async def timed(opened: RedisClients, number: int) -> float:
            started = time.monotonic()
            if use is GUARDED:
                with pytest.raises(Unavailable):
                    await get(opened, number, use)
            else:
                assert await get(opened, number, use) is None
            return time.monotonic() - started

        async with clients() as opened:
            await put(opened, 0)
            with frozen(servers, "redis_cache"):
                return await asyncio.gather(*(timed(opened, number) for number in range(CALLS)))

    times = asyncio.run(ask())
    assert min(times) > SECONDS * 0.9
    assert max(times) < SECONDS + LATE


def test_nobody_gets_the_answer_to_another_question(servers: Any, clients: Any) -> None:
    """A connection whose caller went away holds an answer that is still to come: it must not be used again."""
    process = process_of(servers, "redis_cache")
    seen: list[tuple[int, str | None]] = []

    async def ask(opened: RedisClients, number: int, ending: asyncio.Event) -> None:
        while not ending.is_set():
            seen.append((number, await get(opened, number)))
            await asyncio.sleep(0)

    async def stop_and_go() -> None:
        ending = asyncio.Event()
        async with clients() as opened:
            for number in range(POOL * 3):
                await put(opened, number)
            asking = [asyncio.create_task(ask(opened, number, ending)) for number in range(POOL * 3)]
            try:
                for stop in (SECONDS * 1.5, SECONDS / 2, SECONDS * 0.98, SECONDS * 1.02, SECONDS * 1.5):
                    await asyncio.sleep(SECONDS)
                    os.kill(process, signal.SIGSTOP)
                    await asyncio.sleep(stop)
                    os.kill(process, signal.SIGCONT)
                await asyncio.sleep(SECONDS)
            finally:
                os.kill(process, signal.SIGCONT)
                ending.set()
                await asyncio.gather(*asking)

    asyncio.run(stop_and_go())
    answered = [(number, text) for number, text in seen if text is not None]
    assert answered
    assert len(answered) < len(seen)
    assert [(number, text) for number, text in answered if text != str(number)] == []
