"""Redis: a client for every user on every instance, since eviction is per instance and permissions are per user."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from chat_api.configuration import Address, Configuration, Credentials
from chat_api.stores.keyspaces import ALL, Failure, Use

logger = logging.getLogger(__name__)

Client = Redis
T = TypeVar("T")


class Unavailable(Exception):  # noqa: N818 - a state of the store, not a mistake
    """A use that fails closed got no answer: its instance is down, too slow, full, or refuses the API's user."""


class RedisClients:
    def __init__(self, configuration: Configuration, credentials: Credentials) -> None:
        addresses = {"state": configuration.redis_state, "cache": configuration.redis_cache}
        passwords = {"svc_api": credentials.redis_svc_api, "svc_auth": credentials.redis_svc_auth}
        self._seconds = configuration.redis_timeout_seconds
        self._clients = {
            (user, instance): _client(configuration, addresses[instance], user, passwords[user])
            for user, instance in {(use.user, use.instance) for use in ALL}
        }

    async def run(self, use: Use, command: Callable[[Client], Awaitable[T]], otherwise: T) -> T:
        """Return what `command` gets from the client of `use`, in `redis_timeout_seconds` at most.

        Without an answer, whatever the reason, a use that fails open gives `otherwise`. Raises Unavailable for one that
        fails closed.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await command(self._clients[use.user, use.instance])
        except (RedisError, TimeoutError) as error:
            logger.warning("no answer for %s, which fails %s: %s", use.prefix, use.fails, type(error).__name__)
            if use.fails is Failure.CLOSED:
                raise Unavailable(use.prefix) from None
            return otherwise

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def ready(self, instance: str) -> None:
        """Return if the instance answers all its users; raises redis.RedisError otherwise."""
        for (_, at), client in self._clients.items():
            if at == instance:
                await client.ping()


class _Connection(SSLConnection):
    """TLS waits half a minute for the other side's goodbye: a server that answers nobody would keep a socket open for
    every call that was given up."""

    async def disconnect(self, nowait: bool = False, *why: Any, **told: Any) -> None:
        if nowait and self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(nowait, *why, **told)


def _client(configuration: Configuration, address: Address, user: str, password: SecretStr) -> Client:
    seconds = configuration.redis_timeout_seconds
    pool = BlockingConnectionPool(
        connection_class=_Connection,
        ssl_ca_certs=str(configuration.ca_file),
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        host=address.host,
        port=address.port,
        username=user,
        password=password.get_secret_value(),
        protocol=2,
        decode_responses=True,
        max_connections=configuration.redis_pool_size,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        health_check_interval=30,
        # An immediate second try covers a connection that the server closed while idle; a slow one is not tried again.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)
