"""PostgreSQL: two pools of the two least-privileged roles, and the only ways to get a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from chat_api.configuration import Configuration, Credentials

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

WAIT_SECONDS = 2.0
"""How long a request waits for a connection before it is answered 503."""


class PostgreSQL:
    """`acting_as` for everything a user does, `authenticating` for the auth domain alone."""

    def __init__(self, configuration: Configuration, credentials: Credentials) -> None:
        self._api = _pool(configuration, "app_api", credentials.postgresql_app_api)
        self._auth = _pool(configuration, "app_auth", credentials.postgresql_app_auth)

    async def open(self) -> None:
        """Start connecting; does not wait, so that the API can say which store is down."""
        await self._api.open()
        await self._auth.open()

    async def close(self) -> None:
        await self._api.close()
        await self._auth.close()

    @asynccontextmanager
    async def acting_as(self, user_id: UUID) -> AsyncIterator[Connection]:
        """One transaction as app_api in which row-level security sees `user_id`; committed unless the body raises.

        Raises psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests or psycopg.OperationalError: a 503.
        """
        async with self._api.connection() as connection, connection.transaction():
            await connection.execute("SELECT set_config('app.user_id', %s, true)", (str(user_id),))
            yield connection

    @asynccontextmanager
    async def authenticating(self) -> AsyncIterator[Connection]:
        """One transaction as app_auth, the role that may see password hashes and tokens. Raises as `acting_as`."""
        async with self._auth.connection() as connection, connection.transaction():
            yield connection

    async def ready(self) -> None:
        """Return if both roles can run a statement; raises what `acting_as` raises otherwise."""
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
    }
    return AsyncConnectionPool(
        kwargs=options,
        connection_class=AsyncConnection[DictRow],
        min_size=1,
        max_size=configuration.postgresql_pool_size,
        open=False,
        # A connection that died with a restarted server must not cost a user an error.
        check=AsyncConnectionPool.check_connection,
        name=role,
        timeout=WAIT_SECONDS,
        max_waiting=4 * configuration.postgresql_pool_size,
        max_lifetime=1800,
        reconnect_timeout=30,
    )
