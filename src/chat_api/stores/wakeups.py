"""Wake-ups by pub/sub for who holds the clients' connections. Nothing depends on their arrival."""

from __future__ import annotations

from uuid import UUID

from chat_api.stores.keyspaces import SESSION_ENDS, WAKE_UPS, Use
from chat_api.stores.redis import RedisClients


class WakeUps:
    def __init__(self, redis: RedisClients) -> None:
        self._redis = redis

    async def message_sent(self, conversation_id: str) -> None:
        """Say that a conversation has a new message, not which one: who listens asks as the user it serves."""
        await self._publish(WAKE_UPS, WAKE_UPS.key(conversation_id), "message")

    async def session_ended(self, session_id: UUID) -> None:
        """Say that a session has ended, so that its connections do."""
        await self._publish(SESSION_ENDS, SESSION_ENDS.key(), str(session_id))

    async def _publish(self, use: Use, channel: str, message: str) -> None:
        await self._redis.run(use, lambda client: client.publish(channel, message), None)
