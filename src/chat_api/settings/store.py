"""Settings in PostgreSQL, as app_api: row-level security decides which rows there are."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import JsonValue

from chat_api.identifiers import uuid7
from chat_api.problems import Problem
from chat_api.stores.postgresql import PostgreSQL

MOST_SETTINGS = 100
OWN = "SELECT key, value FROM chat.settings WHERE user_id = %s ORDER BY key"
PUT = """
INSERT INTO chat.settings (id, user_id, key, value)
SELECT %(id)s, %(user)s, %(key)s::text, %(value)s
 WHERE (SELECT count(*) FROM chat.settings WHERE user_id = %(user)s AND key <> %(key)s::text) < %(most)s
ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value
"""
REMOVE = "DELETE FROM chat.settings WHERE user_id = %s AND key = %s"


class Settings:
    def __init__(self, postgresql: PostgreSQL) -> None:
        self._postgresql = postgresql

    async def own(self, acting_user: UUID) -> dict[str, JsonValue]:
        found = await self._postgresql.run_as(acting_user, OWN, (acting_user,))
        return {row["key"]: row["value"] for row in found.rows}

    async def put(self, acting_user: UUID, key: str, value: JsonValue) -> None:
        """Set one value; raises a 409 Problem if that would be more than MOST_SETTINGS keys."""
        values = {"id": uuid7(), "user": acting_user, "key": key, "value": Jsonb(value), "most": MOST_SETTINGS}
        if (await self._postgresql.run_as(acting_user, PUT, values)).affected == 0:
            raise Problem(HTTPStatus.CONFLICT, f"There are {MOST_SETTINGS} settings already.")

    async def remove(self, acting_user: UUID, key: str) -> None:
        await self._postgresql.run_as(acting_user, REMOVE, (acting_user, key))
