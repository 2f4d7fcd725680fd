"""Presence in the state instance: one sorted set a user, each session with the time until which it counts.

Failure mode: open. Without the instance everybody seems offline.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from uuid import UUID

from chat_api.auth.tokens import Identity
from chat_api.stores import keyspaces
from chat_api.stores.redis import UNREACHABLE, RedisClients

logger = logging.getLogger(__name__)


class Presence:
    def __init__(self, redis: RedisClients) -> None:
        self._client = redis.state

    async def heard_of(self, identity: Identity) -> None:
        """Count the session's user as online for PRESENCE_SECONDS; raises one of UNREACHABLE without the instance."""
        key, now = keyspaces.presence(identity.user_id), time.time()
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.zadd(key, {str(identity.session_id): now + keyspaces.PRESENCE_SECONDS})
            pipeline.zremrangebyscore(key, "-inf", now)
            pipeline.expire(key, keyspaces.PRESENCE_SECONDS)
            await pipeline.execute()

    async def online(self, user_ids: Sequence[UUID]) -> list[UUID]:
        """Return those of `user_ids` that are online; the caller has made sure that they may be asked about."""
        now = time.time()
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for user_id in user_ids:
                    pipeline.zcount(keyspaces.presence(user_id), now, "+inf")
                counts = await pipeline.execute()
        except UNREACHABLE as error:
            logger.warning("presence not read: %s", type(error).__name__)
            return []
        return [user_id for user_id, count in zip(user_ids, counts, strict=True) if count]
