"""Profiles in PostgreSQL, as app_api: row-level security decides which rows there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from psycopg import sql
from psycopg.rows import DictRow
from pydantic import ValidationError

from chat_api.problems import not_found
from chat_api.stores.cache import Cache
from chat_api.stores.postgresql import PostgreSQL
from chat_api.users.schemas import OwnProfile

OWN = """
SELECT profiles.user_id, username, display_name, bio, avatar_url, is_verified, profiles.created_at, profiles.updated_at
  FROM chat.profiles JOIN chat.users ON users.id = profiles.user_id
 WHERE profiles.user_id = %s
"""
CHANGE = """
WITH changed AS (UPDATE chat.profiles SET {} WHERE user_id = %s RETURNING *)
SELECT changed.user_id, username, display_name, bio, avatar_url, is_verified, changed.created_at, changed.updated_at
  FROM changed JOIN chat.users ON users.id = changed.user_id
"""
VISIBLE = "SELECT count(*) AS number FROM chat.visible_among(%s::uuid[])"
FIND = "SELECT chat.find_user(%s) AS id"


class Profiles:
    def __init__(self, postgresql: PostgreSQL, cache: Cache) -> None:
        self._postgresql, self._cache = postgresql, cache

    async def own(self, acting_user: UUID) -> OwnProfile:
        """Return the profile of `acting_user` as it was a cache's time to live ago or later.

        Raises a 404 Problem without one.
        """
        cached = await self._cache.get(acting_user)
        if cached is not None:
            try:
                return OwnProfile.model_validate_json(cached)
            except ValidationError:
                pass  # written by another version of the API: read it anew
        profile = _profile((await self._postgresql.run_as(acting_user, OWN, (acting_user,))).rows)
        await self._cache.put(acting_user, profile.model_dump_json())
        return profile

    async def change(self, acting_user: UUID, values: Mapping[str, str | None]) -> OwnProfile:
        """Set the columns of `values` in the profile of `acting_user`; raises a 404 Problem without one."""
        found = await self._postgresql.run_as(
            acting_user, change_of(values) if values else OWN, (*values.values(), acting_user)
        )
        profile = _profile(found.rows)
        await self._cache.forget(acting_user)
        return profile

    async def all_visible(self, acting_user: UUID, user_ids: Iterable[UUID]) -> bool:
        """Return whether `acting_user` may know of all of `user_ids`: they are active and do not block it."""
        asked = set(user_ids)
        found = await self._postgresql.run_as(acting_user, VISIBLE, (array_of(asked),))
        return bool(found.rows[0]["number"] == len(asked))

    async def id_of(self, acting_user: UUID, username: str) -> UUID:
        """Return the id of the user of that name; raises a 404 Problem for one that `acting_user` may not know of."""
        found = await self._postgresql.run_as(acting_user, FIND, (username,))
        user_id: UUID | None = found.rows[0]["id"]
        if user_id is None:
            raise not_found("user")
        return user_id


def array_of(user_ids: Iterable[UUID]) -> str:
    """Return the ids as PostgreSQL reads an array: the driver takes twice as long for a list."""
    return f"{{{','.join(map(str, user_ids))}}}"


def change_of(columns: Iterable[str]) -> sql.Composed:
    """Return the statement that sets `columns` of a user's profile and shows it; it takes their values and the user."""
    assignments = (sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder()) for column in columns)
    return sql.SQL(CHANGE).format(sql.SQL(", ").join(assignments))


def _profile(rows: Sequence[DictRow]) -> OwnProfile:
    if not rows:
        raise not_found("profile")
    return OwnProfile.model_validate(rows[0])
