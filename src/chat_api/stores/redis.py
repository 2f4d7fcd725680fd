"""Redis: three clients, since eviction is per instance and permissions are per user."""

from __future__ import annotations

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chat_api.configuration import Address, Configuration, Credentials

Client = Redis

UNREACHABLE = (RedisConnectionError, RedisTimeoutError)
"""What a call raises when its instance is down, too slow, or its pool is exhausted."""


class RedisClients:
    """`state_auth` writes sessions, `state` reads them and keeps presence and limits, `cache` may forget anything."""

    def __init__(self, configuration: Configuration, credentials: Credentials) -> None:
        self.state = _client(configuration, configuration.redis_state, "svc_api", credentials.redis_svc_api)
        self.state_auth = _client(configuration, configuration.redis_state, "svc_auth", credentials.redis_svc_auth)
        self.cache = _client(configuration, configuration.redis_cache, "svc_api", credentials.redis_svc_api)

    async def close(self) -> None:
        for client in (self.state, self.state_auth, self.cache):
            await client.aclose()

    async def state_ready(self) -> None:
        """Return if the state instance answers both users; raises one of UNREACHABLE otherwise."""
        await self.state.ping()
        await self.state_auth.ping()

    async def cache_ready(self) -> None:
        """Return if the cache instance answers; raises one of UNREACHABLE otherwise."""
        await self.cache.ping()


def _client(configuration: Configuration, address: Address, user: str, password: SecretStr) -> Client:
    pool = BlockingConnectionPool(
        connection_class=SSLConnection,
        ssl_ca_certs=str(configuration.ca_file),
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        host=address.host,
        port=address.port,
        username=user,
        password=password.get_secret_value(),
        protocol=2,
        decode_responses=True,
        max_connections=20,
        timeout=2,
        socket_timeout=2,
        socket_connect_timeout=2,
        health_check_interval=30,
        # One immediate second try covers a connection that the server closed while idle.
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)
