"""Live sessions in Redis: what makes an access token worth nothing the moment its session ends.

Failure mode: closed. Without the state instance nobody is identified, and the answer is 503.
"""

from __future__ import annotations

from uuid import UUID

from chat_api.auth.tokens import Identity
from chat_api.stores import keyspaces
from chat_api.stores.redis import RedisClients


class Sessions:
    def __init__(self, redis: RedisClients) -> None:
        self._writer, self._reader = redis.state_auth, redis.state

    async def open(self, identity: Identity) -> None:
        """Start or prolong the session for as long as an access token lives."""
        await self._writer.set(
            keyspaces.session(identity.session_id), str(identity.user_id), ex=keyspaces.SESSION_SECONDS
        )

    async def end(self, session_id: UUID) -> None:
        await self._writer.delete(keyspaces.session(session_id))

    async def is_live(self, identity: Identity) -> bool:
        return await self._reader.get(keyspaces.session(identity.session_id)) == str(identity.user_id)
