"""One request waits for PostgreSQL once, counted on the wire, and what goes wrong on the way leaves a clean pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import AdminShutdown
from psycopg_pool import PoolTimeout, TooManyRequests

from chat_api.configuration import Configuration, Credentials, read_configuration, read_credentials
from chat_api.problems import Problem
from chat_api.relationships.store import Relationships
from chat_api.settings.store import Settings
from chat_api.stores.cache import Cache
from chat_api.stores.keyspaces import PROFILES
from chat_api.stores.postgresql import WAIT_SECONDS, PostgreSQL
from chat_api.stores.redis import RedisClients
from chat_api.users.store import Profiles

Call = Callable[[PostgreSQL, Profiles, UUID, UUID], Awaitable[Any]]

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What libpq asks before TLS (PostgreSQL manual, 55.7)."""
READS: dict[str, Call] = {
    "own profile": lambda _store, profiles, me, _other: profiles.own(me),
    "find user": lambda _store, profiles, me, _other: _absent(profiles.id_of(me, "nobody")),
    "visible": lambda _store, profiles, me, other: profiles.all_visible(me, [other, uuid4()]),
    "relationships": lambda store, _profiles, me, _other: Relationships(store).own(me),
    "settings": lambda store, _profiles, me, _other: Settings(store).own(me),
}
WRITES: dict[str, Call] = {
    "change profile": lambda _store, profiles, me, _other: profiles.change(me, {"display_name": "I", "bio": "new"}),
    "put setting": lambda store, _profiles, me, _other: Settings(store).put(me, "theme", "dark"),
    "remove setting": lambda store, _profiles, me, _other: Settings(store).remove(me, "theme"),
    "request": lambda store, _profiles, me, _other: _absent(Relationships(store).request(me, uuid4())),
    "answer": lambda store, _profiles, me, _other: _absent(Relationships(store).answer(me, uuid4(), accept=True)),
    "block": lambda store, _profiles, me, _other: _absent(Relationships(store).block(me, uuid4())),
    "end": lambda store, _profiles, me, _other: _absent(Relationships(store).end(me, uuid4())),
}


UNAVAILABLE = {psycopg.OperationalError, AdminShutdown, PoolTimeout, TooManyRequests}


async def _absent(call: Awaitable[Any]) -> None:
    with pytest.raises(Problem):
        await call


class Wire:
    """A relay before a server; `trips` counts how often the client spoke after the server had, `writes` its records."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server_spoke = True
        self.trips = self.writes = 0

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(
            self._copy(reader, server_writer, from_client=True), self._copy(server_reader, writer, from_client=False)
        )

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_client: bool) -> None:
        unread = bytearray()
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if from_client:
                    self.trips += self._server_spoke
                    unread += data
                    self.writes += _take_records(unread)
                self._server_spoke = not from_client
                target.write(data)
                await target.drain()
        target.close()


def _take_records(unread: bytearray) -> int:
    """Take whole TLS records (RFC 8446, 5.1) from the beginning and return how many: libpq makes one of each write."""
    taken = 0
    if unread.startswith(SSL_REQUEST):
        del unread[: len(SSL_REQUEST)]
    while len(unread) >= 5 and len(unread) >= 5 + int.from_bytes(unread[3:5]):
        del unread[: 5 + int.from_bytes(unread[3:5])]
        taken += 1
    return taken


@asynccontextmanager
async def opened(configuration: Configuration, credentials: Credentials) -> AsyncIterator[PostgreSQL]:
    store = PostgreSQL(configuration, credentials)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def configuration(environment: dict[str, str]) -> Configuration:
    """One connection, so that every call is on the same one."""
    return read_configuration({**environment, "CHAT_API_POSTGRESQL_POOL_SIZE": "1"})


@pytest.fixture
def secret(credentials: Path) -> Credentials:
    return read_credentials(credentials)


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_a_request_of_one_statement_is_one_round_trip_and_one_write(
    trio: Any, servers: Any, configuration: Configuration, secret: Credentials, name: str
) -> None:
    me, other = UUID(trio[0].id), UUID(trio[1].id)

    async def count() -> list[tuple[int, int]]:
        wire = Wire(servers.ports["postgresql"])
        relay = await asyncio.start_server(wire.relay, "127.0.0.1")
        port = relay.sockets[0].getsockname()[1]
        through = configuration.model_copy(
            update={"postgresql_hosts": [configuration.postgresql_hosts[0].model_copy(update={"port": port})]}
        )
        redis = RedisClients(configuration, secret)
        cache = Cache(redis, PROFILES)
        counted = []
        async with relay, opened(through, secret) as store:
            await store.ready()
            for _ in range(8):  # the driver prepares a statement the fifth time: that must cost none either
                await cache.forget(me)
                trips, writes = wire.trips, wire.writes
                await {**READS, **WRITES}[name](store, Profiles(store, cache), me, other)
                counted.append((wire.trips - trips, wire.writes - writes))
        await redis.close()
        return counted

    assert asyncio.run(count()) == [(1, 1)] * 8


def test_a_failed_statement_leaves_a_clean_connection(
    trio: Any, configuration: Configuration, secret: Credentials
) -> None:
    me = UUID(trio[0].id)

    async def fail_and_go_on() -> None:
        async with opened(configuration, secret) as store:
            for _ in range(8):
                with pytest.raises(psycopg.errors.NoDataFound):
                    await store.run_as(me, "SELECT chat.answer_friendship(%s, true)", (uuid4(),))
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await store.run_as(
                        me,
                        "INSERT INTO chat.settings (id, user_id, key, value)"
                        " SELECT gen_random_uuid(), %s, 'k' || n, to_jsonb(1 / (2 - n)) FROM generate_series(1, 2) n",
                        (me,),
                    )
                kept = await store.run_as(me, "SELECT count(*) AS n FROM chat.settings WHERE key LIKE 'k%%'")
                assert kept.rows == [{"n": 0}]
                forgotten = await store.run_as(me, "SELECT pg_backend_pid() AS pid, chat.current_user_id() AS me")
                assert forgotten.rows[0]["me"] == me
                async with store._api.connection() as connection:
                    left = await connection.execute("SELECT current_setting('app.user_id', true) AS it")
                    assert await left.fetchall() == [{"it": ""}]
                    assert connection.info.backend_pid == forgotten.rows[0]["pid"]

    asyncio.run(fail_and_go_on())


def test_a_statement_cannot_bring_another_one(trio: Any, configuration: Configuration, secret: Credentials) -> None:
    """Not even one without parameters: SQL injected into it could ask for an EXPLAIN (sql/leak_budget.yml)."""

    async def send() -> None:
        async with opened(configuration, secret) as store:
            with pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"):
                await store.run_as(UUID(trio[0].id), "SELECT 1; EXPLAIN SELECT 1")

    asyncio.run(send())


def test_a_cancelled_request_leaves_nothing_for_the_next(
    trio: Any, configuration: Configuration, secret: Credentials
) -> None:
    me, other = UUID(trio[0].id), UUID(trio[1].id)

    async def cancel_and_go_on() -> None:
        async with opened(configuration, secret) as store:
            for _ in range(3):
                slow = asyncio.create_task(store.run_as(me, "SELECT pg_sleep(3)"))
                await asyncio.sleep(0.2)
                slow.cancel()
                with suppress(asyncio.CancelledError, psycopg.Error):
                    await slow
                found = await store.run_as(other, "SELECT chat.current_user_id() AS me")
                assert found.rows == [{"me": other}]

    asyncio.run(cancel_and_go_on())


def test_connections_that_died_idle_cost_no_error(
    trio: Any, servers: Any, environment: dict[str, str], secret: Credentials
) -> None:
    me = UUID(trio[0].id)
    configuration = read_configuration(environment)
    end_all = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app_api'"

    async def die_and_go_on() -> None:
        async with opened(configuration, secret) as store:
            for _ in range(3):
                # All at once, so that several connections lie idle when they die.
                await asyncio.gather(*(store.run_as(me, "SELECT pg_sleep(0.2)") for _ in range(6)))
                with psycopg.connect(
                    host=str(servers.postgresql.socket_directory), port=servers.postgresql.port, user="postgres"
                ) as administrator:
                    assert administrator.execute(end_all).rowcount >= 4
                assert (await store.run_as(me, "SELECT chat.current_user_id() AS me")).rows == [{"me": me}]

    asyncio.run(die_and_go_on())


def test_requests_are_answered_again_after_an_outage(
    trio: Any, servers: Any, environment: dict[str, str], secret: Credentials
) -> None:
    me = UUID(trio[0].id)

    async def stop_and_go_on() -> None:
        async with opened(read_configuration(environment), secret) as store:
            await asyncio.gather(*(store.run_as(me, "SELECT pg_sleep(0.2)") for _ in range(6)))
            servers.stop("postgresql")
            try:
                # More than may wait at once, and longer than one attempt to connect has patience.
                asked = [store.run_as(me, "SELECT 1") for _ in range(50)]
                refused = await asyncio.gather(*asked, return_exceptions=True)
                assert {type(error) for error in refused} <= UNAVAILABLE
                await asyncio.sleep(2 * WAIT_SECONDS)
            finally:
                # In this thread: a server ends with the thread that started it (PR_SET_PDEATHSIG, prctl(2)).
                servers.start("postgresql")
            for _ in range(20):
                # Who waited in vain counts as waiting until the next attempt to connect.
                with suppress(TooManyRequests):
                    assert (await store.run_as(me, "SELECT 1 AS one")).rows == [{"one": 1}]
                    return
                await asyncio.sleep(0.5)
            pytest.fail("the pool does not connect again")

    asyncio.run(stop_and_go_on())
