"""Live sessions in Redis: what makes an access token worth nothing the moment its session ends.

Without the state instance nobody is identified.
"""

from __future__ import annotations

from uuid import UUID

from chat_api.auth.tokens import Identity
from chat_api.stores.keyspaces import SESSION_READS, SESSION_WRITES
from chat_api.stores.redis import RedisClients
from chat_api.stores.wakeups import WakeUps


class Sessions:
    """Every method raises stores.redis.Unavailable without the instance."""

    def __init__(self, redis: RedisClients, wake_ups: WakeUps) -> None:
        self._redis, self._wake_ups = redis, wake_ups

    async def open(self, identity: Identity) -> None:
        """Start or prolong the session for as long as an access token lives."""
        key, user_id = SESSION_WRITES.key(identity.session_id), str(identity.user_id)
        await self._redis.run(SESSION_WRITES, lambda client: client.set(key, user_id, ex=SESSION_WRITES.seconds), None)

    async def end(self, session_id: UUID) -> None:
        key = SESSION_WRITES.key(session_id)
        await self._redis.run(SESSION_WRITES, lambda client: client.delete(key), None)
        await self._wake_ups.session_ended(session_id)

    async def is_live(self, identity: Identity) -> bool:
        key = SESSION_READS.key(identity.session_id)
        user_id = await self._redis.run(SESSION_READS, lambda client: client.get(key), None)
        return bool(user_id == str(identity.user_id))
