"""Values in the cache instance by one use of it: without it everything is read from where it is kept, only slower."""

from __future__ import annotations

from chat_api.stores.keyspaces import Use
from chat_api.stores.redis import RedisClients


class Cache:
    def __init__(self, redis: RedisClients, use: Use) -> None:
        self._redis, self._use = redis, use

    async def get(self, subject: object) -> str | None:
        key = self._use.key(subject)
        value = await self._redis.run(self._use, lambda client: client.get(key), None)
        return None if value is None else str(value)

    async def put(self, subject: object, value: str) -> None:
        key = self._use.key(subject)
        await self._redis.run(self._use, lambda client: client.set(key, value, ex=self._use.seconds), None)

    async def forget(self, subject: object) -> None:
        """Remove a value that has changed; what cannot be removed expires by its time to live."""
        key = self._use.key(subject)
        await self._redis.run(self._use, lambda client: client.delete(key), None)
