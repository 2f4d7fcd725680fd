"""Profiles in PostgreSQL, as app_api: row-level security decides which rows there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from psycopg import sql
from pydantic import ValidationError

from chat_api.problems import not_found
from chat_api.stores import keyspaces
from chat_api.stores.cache import Cache
from chat_api.stores.postgresql import Connection, PostgreSQL
from chat_api.users.schemas import OwnProfile


class Profiles:
    def __init__(self, postgresql: PostgreSQL, cache: Cache) -> None:
        self._postgresql, self._cache = postgresql, cache

    async def own(self, acting_user: UUID) -> OwnProfile:
        """Return the profile of `acting_user`, at most PROFILE_SECONDS old; raises a 404 Problem without one."""
        cached = await self._cache.get(keyspaces.profile(acting_user))
        if cached is not None:
            try:
                return OwnProfile.model_validate_json(cached)
            except ValidationError:
                pass  # written by another version of the API: read it anew
        async with self._postgresql.acting_as(acting_user) as connection:
            profile = await _read(connection, acting_user)
        await self._cache.put(keyspaces.profile(acting_user), profile.model_dump_json(), keyspaces.PROFILE_SECONDS)
        return profile

    async def change(self, acting_user: UUID, values: Mapping[str, str | None]) -> OwnProfile:
        """Set the columns of `values` in the profile of `acting_user`; raises a 404 Problem without one."""
        async with self._postgresql.acting_as(acting_user) as connection:
            if values:
                assignments = sql.SQL(", ").join(
                    sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder()) for column in values
                )
                await connection.execute(
                    sql.SQL("UPDATE chat.profiles SET {} WHERE user_id = %s").format(assignments),
                    (*values.values(), acting_user),
                )
            profile = await _read(connection, acting_user)
        await self._cache.forget(keyspaces.profile(acting_user))
        return profile

    async def visible(self, acting_user: UUID, user_ids: Iterable[UUID]) -> set[UUID]:
        """Return those of `user_ids` that `acting_user` may know of: active, and not blocking it."""
        async with self._postgresql.acting_as(acting_user) as connection:
            found = await connection.execute(
                "SELECT user_id FROM chat.profiles WHERE user_id = ANY(%s)", (list(user_ids),)
            )
            return {row["user_id"] for row in await found.fetchall()}

    async def id_of(self, acting_user: UUID, username: str) -> UUID:
        """Return the id of the user of that name; raises a 404 Problem for one that `acting_user` may not know of."""
        async with self._postgresql.acting_as(acting_user) as connection:
            found = await connection.execute("SELECT chat.find_user(%s) AS id", (username,))
            row = await found.fetchone()
        if row is None or row["id"] is None:
            raise not_found("user")
        user_id: UUID = row["id"]
        return user_id


async def _read(connection: Connection, acting_user: UUID) -> OwnProfile:
    found = await connection.execute(
        """
        SELECT profiles.user_id, username, display_name, bio, avatar_url, is_verified, profiles.created_at,
               profiles.updated_at
          FROM chat.profiles JOIN chat.users ON users.id = profiles.user_id
         WHERE profiles.user_id = %s
        """,
        (acting_user,),
    )
    row = await found.fetchone()
    if row is None:
        raise not_found("profile")
    return OwnProfile.model_validate(row)
