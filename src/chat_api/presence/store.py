"""Presence in the state instance: one sorted set a user, each session with the time until which it counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chat_api.auth.tokens import Identity
from chat_api.stores.keyspaces import PRESENCE_READS, PRESENCE_WRITES
from chat_api.stores.redis import Client, RedisClients


class Presence:
    def __init__(self, redis: RedisClients) -> None:
        self._redis = redis

    async def heard_of(self, identity: Identity) -> None:
        """Count the session's user as online for a while; raises stores.redis.Unavailable without the instance."""
        key, now, seconds = PRESENCE_WRITES.key(identity.user_id), time.time(), PRESENCE_WRITES.seconds or 0

        async def announce(client: Client) -> list[Any]:
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.zadd(key, {str(identity.session_id): now + seconds})
                pipeline.zremrangebyscore(key, "-inf", now)
                pipeline.expire(key, seconds)
                return await pipeline.execute()

        await self._redis.run(PRESENCE_WRITES, announce, [])

    async def online(self, user_ids: Sequence[UUID]) -> list[UUID]:
        """Return those of `user_ids` that are online; the caller has made sure that they may be asked about."""
        now = time.time()

        async def count(client: Client) -> list[Any]:
            async with client.pipeline(transaction=False) as pipeline:
                for user_id in user_ids:
                    pipeline.zcount(PRESENCE_READS.key(user_id), now, "+inf")
                return await pipeline.execute()

        counts = await self._redis.run(PRESENCE_READS, count, [0] * len(user_ids))
        return [user_id for user_id, count in zip(user_ids, counts, strict=True) if count]
