"""The three stores, opened and closed together with the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from chat_api.configuration import Configuration, Credentials
from chat_api.stores.mongodb import MongoDB
from chat_api.stores.postgresql import PostgreSQL
from chat_api.stores.redis import RedisClients

logger = logging.getLogger(__name__)

READY_SECONDS = 3.0


class Stores:
    def __init__(self, configuration: Configuration, credentials: Credentials) -> None:
        self.postgresql = PostgreSQL(configuration, credentials)
        self.mongodb = MongoDB(configuration, credentials)
        self.redis = RedisClients(configuration, credentials)

    async def open(self) -> None:
        await self.postgresql.open()

    async def close(self) -> None:
        await self.postgresql.close()
        await self.mongodb.close()
        await self.redis.close()

    async def readiness(self) -> dict[str, bool]:
        """Return for each store whether it answers its real user within READY_SECONDS."""
        checks: dict[str, Callable[[], Awaitable[None]]] = {
            "postgresql": self.postgresql.ready,
            "mongodb": self.mongodb.ready,
            "redis_state": partial(self.redis.ready, "state"),
            "redis_cache": partial(self.redis.ready, "cache"),
        }
        answers = await asyncio.gather(*(self._answers(name, check) for name, check in checks.items()))
        return dict(zip(checks, answers, strict=True))

    @staticmethod
    async def _answers(name: str, check: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await check()
        except Exception as error:
            logger.warning("%s is not ready: %s", name, type(error).__name__)
            return False
        return True
