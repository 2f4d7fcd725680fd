"""Relationships in PostgreSQL, as app_api: the database's functions make them, row-level security shows them."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Literal
from uuid import UUID

from psycopg import errors
from pydantic import BaseModel

from chat_api.identifiers import uuid7
from chat_api.problems import Problem, not_found
from chat_api.stores.postgresql import PostgreSQL

MOST_SHOWN = 500
OWN = """
SELECT user_id, related_user_id, type, status, created_at FROM chat.relationships ORDER BY created_at DESC LIMIT %s
"""


class Relationship(BaseModel):
    """`user_id` asked for friendship with, or blocks, `related_user_id`."""

    user_id: UUID
    related_user_id: UUID
    type: Literal["friend", "blocked"]
    status: Literal["pending", "accepted", "rejected"]
    created_at: datetime


class Relationships:
    def __init__(self, postgresql: PostgreSQL) -> None:
        self._postgresql = postgresql

    async def own(self, acting_user: UUID) -> list[Relationship]:
        """Return the newest MOST_SHOWN: own requests, friendships and blocks, others' requests, never their blocks."""
        found = await self._postgresql.run_as(acting_user, OWN, (MOST_SHOWN,))
        return [Relationship.model_validate(row) for row in found.rows]

    async def request(self, acting_user: UUID, addressee: UUID) -> None:
        """Ask for friendship; raises a 404 Problem for a user not to be known of, a 409 Problem if there is a tie."""
        try:
            await self._postgresql.run_as(acting_user, "SELECT chat.request_friendship(%s, %s)", (uuid7(), addressee))
        except errors.NoDataFound:
            raise not_found("user") from None
        except errors.UniqueViolation:
            raise Problem(HTTPStatus.CONFLICT, "There is a friendship, a request or a block already.") from None

    async def answer(self, acting_user: UUID, requester: UUID, *, accept: bool) -> None:
        """Accept or reject a request that waits; raises a 404 Problem if there is none."""
        try:
            await self._postgresql.run_as(acting_user, "SELECT chat.answer_friendship(%s, %s)", (requester, accept))
        except errors.NoDataFound:
            raise not_found("request") from None

    async def block(self, acting_user: UUID, target: UUID) -> None:
        """Block a user, which ends a friendship; raises a 404 Problem for a user not to be known of."""
        try:
            await self._postgresql.run_as(acting_user, "SELECT chat.block_user(%s, %s)", (uuid7(), target))
        except errors.NoDataFound:
            raise not_found("user") from None

    async def end(self, acting_user: UUID, other: UUID) -> None:
        """End a friendship, a request or a block of one's own; raises a 404 Problem if there is none."""
        try:
            await self._postgresql.run_as(acting_user, "SELECT chat.end_relationship(%s)", (other,))
        except errors.NoDataFound:
            raise not_found("relationship") from None
