"""The cache instance. Failure mode: open. Without it everything is read from where it is kept, and is only slower."""

from __future__ import annotations

import logging

from chat_api.stores.redis import UNREACHABLE, RedisClients

logger = logging.getLogger(__name__)


class Cache:
    def __init__(self, redis: RedisClients) -> None:
        self._client = redis.cache

    async def get(self, key: str) -> str | None:
        try:
            value = await self._client.get(key)
        except UNREACHABLE as error:
            logger.warning("cache not read: %s", type(error).__name__)
            return None
        return str(value) if value is not None else None

    async def put(self, key: str, value: str, seconds: int) -> None:
        try:
            await self._client.set(key, value, ex=seconds)
        except UNREACHABLE as error:
            logger.warning("cache not written: %s", type(error).__name__)

    async def forget(self, key: str) -> None:
        """Remove a value that has changed; what cannot be removed expires by its time to live."""
        try:
            await self._client.delete(key)
        except UNREACHABLE as error:
            logger.warning("cache not cleared: %s", type(error).__name__)
