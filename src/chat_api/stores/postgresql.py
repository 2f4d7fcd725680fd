"""PostgreSQL: two pools of the two least-privileged roles, and the only ways to run a statement."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, OperationalError
from psycopg.rows import DictRow, dict_row
from psycopg.sql import Composed
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from chat_api.configuration import Configuration, Credentials
from chat_api.context import Signer
from chat_api.stores.one_write import OneWrite

Connection = AsyncConnection[DictRow]

WAIT_SECONDS = 2.0
"""How long a request waits for a connection before it is answered 503."""
SET_CONTEXT = "SELECT set_config('app.user_id', %s, true)"


class Pool(AsyncConnectionPool[Connection]):
    """A pool whose connections may all have died while they were idle, at the cost of no error.

    The pool's own `check` waits a second for each that it finds dead (psycopg_pool 3.3): two would be a 503.
    """

    async def getconn(self, timeout: float | None = None) -> Connection:
        """Return a connection that is alive; raises psycopg_pool.PoolTimeout and TooManyRequests as the pool does."""
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = await super().getconn(deadline - monotonic())
            try:
                await _require_alive(connection)
            except OperationalError:
                await self.putconn(connection)
            except BaseException:
                await self.putconn(connection)
                raise
            else:
                return connection


class Done(NamedTuple):
    """What a statement gave: its rows, and how many it returned or changed."""

    rows: list[DictRow]
    affected: int


class PostgreSQL:
    """`run_as` for everything a user does, `authenticating` for the auth domain alone."""

    def __init__(self, configuration: Configuration, credentials: Credentials) -> None:
        self._api = _pool(configuration, "app_api", credentials.postgresql_app_api)
        self._auth = _pool(configuration, "app_auth", credentials.postgresql_app_auth)
        self._signer = Signer(credentials.context_keys)

    async def open(self) -> None:
        """Start connecting; does not wait, so that the API can say which store is down."""
        await self._api.open()
        await self._auth.open()

    async def close(self) -> None:
        await self._api.close()
        await self._auth.close()

    async def run_as(
        self,
        user_id: UUID,
        statement: LiteralString | Composed,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
    ) -> Done:
        """Run one statement as app_api in a transaction in which row-level security sees `user_id`, and commit it.

        One network round trip: PostgreSQL makes one transaction of what it gets before a Sync (manual, 55.2.4
        "Pipelining"), and rolls it back when a part of it fails. Raises psycopg_pool.PoolTimeout,
        psycopg_pool.TooManyRequests or psycopg.OperationalError (a 503), and what the statement raises.
        """
        async with self._api.connection() as connection:
            async with OneWrite(connection):
                await connection.execute(SET_CONTEXT, (self._context(connection, user_id),))
                cursor = await connection.execute(statement, parameters)
            return Done(await cursor.fetchall() if cursor.description else [], cursor.rowcount)

    @asynccontextmanager
    async def authenticating(self) -> AsyncIterator[Connection]:
        """One transaction as app_auth, the role that may see password hashes and tokens. Raises as `run_as`."""
        async with self._auth.connection() as connection, connection.transaction():
            yield connection

    def _context(self, connection: Connection, user_id: UUID) -> str:
        """Always signed: a database that takes it plain reads the user and nothing else."""
        return self._signer.sign(user_id, connection.info.backend_pid)

    async def ready(self) -> None:
        """Return if both roles can run a statement; raises what `run_as` raises otherwise."""
        for pool in (self._api, self._auth):
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")


def _pool(configuration: Configuration, role: str, password: SecretStr) -> Pool:
    servers = configuration.postgresql_hosts
    options: dict[str, Any] = {
        "host": ",".join(server.host for server in servers),
        "port": ",".join(str(server.port) for server in servers),
        "dbname": configuration.postgresql_database,
        "user": role,
        "password": password.get_secret_value(),
        "application_name": "chat_api",
        "connect_timeout": 3,
        "target_session_attrs": "read-write",
        "sslmode": "verify-full",
        "sslrootcert": str(configuration.ca_file),
        "row_factory": dict_row,
        # Transactions are begun where they are wanted: a pipeline is one by itself.
        "autocommit": True,
    }
    return Pool(
        kwargs=options,
        connection_class=AsyncConnection[DictRow],
        min_size=1,
        max_size=configuration.postgresql_pool_size,
        open=False,
        name=role,
        timeout=WAIT_SECONDS,
        max_waiting=4 * configuration.postgresql_pool_size,
        max_lifetime=1800,
        # A longer patience doubles its pauses. A pool that gave up would refuse every request for good, once as many
        # had waited in vain as may wait (psycopg_pool 3.3), so it never gives up.
        reconnect_timeout=WAIT_SECONDS,
        reconnect_failed=Pool.check,
    )


async def _require_alive(connection: Connection) -> None:
    """Raise OperationalError if the connection died.

    An idle server is silent, so only a connection that has something to read, if only the end, is asked: asking all of
    them would cost every request a round trip.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)
