"""What happened when a role tried a statement: always in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from chat_api.context import Signer

INSUFFICIENT_PRIVILEGE = "42501"  # PostgreSQL manual, appendix A; row security answers it too
INVALID_TEXT = "22P02"


Statement = LiteralString | bytes | sql.SQL | sql.Composed

Step = tuple[str, LiteralString, tuple[Any, ...]]
"""A user's id, a statement and its parameters."""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that signs whom it acts for, as the application does, when it has a `signer`."""

    signer: Signer | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """The rows that a statement touched or returned, or the SQLSTATE and message that it was refused with."""

    rows: int
    sqlstate: str | None = None
    values: tuple[tuple[Any, ...], ...] = field(default=(), repr=False)
    message: str = field(default="", repr=False)

    @property
    def is_denied(self) -> bool:
        """Whether the server refused it for want of rights, not for any other fault of the statement."""
        return self.sqlstate == INSUFFICIENT_PRIVILEGE

    @property
    def is_harmless(self) -> bool:
        """Whether it was denied, or allowed and touched nothing."""
        return self.is_denied or (self.sqlstate is None and self.rows == 0)

    def __str__(self) -> str:
        if self.sqlstate is None:
            return f"{self.rows} rows"
        return "denied" if self.is_denied else f"error {self.sqlstate}"


def attempt(
    connection: psycopg.Connection[Any],
    statement: Statement,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
    *,
    user_id: str | None = None,
    after: Sequence[Step] = (),
) -> Attempt:
    """Try a statement, with `user_id` as the session's user when given; nothing of it stays.

    `after` are steps of other users before it in the same transaction: the rows that the statement must not reach.
    A statement that waits for a lock gives up at once: a probe never stands in an application's way.
    Raises psycopg.Error when the connection fails and when a step of `after` does.
    """
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL lock_timeout = '200ms'")
        for step_user, step, values in after:
            act_for(connection, step_user)
            connection.execute(step, values)
        if user_id is not None or after:
            act_for(connection, user_id or "")
        try:
            with connection.transaction():
                cursor = connection.execute(statement, parameters)
                values = tuple(cursor.fetchall()) if cursor.description else ()
                return Attempt(rows=cursor.rowcount, values=values)
        except psycopg.DatabaseError as error:
            if error.sqlstate is None:
                raise  # the connection failed, not the statement
            return Attempt(rows=0, sqlstate=error.sqlstate, message=error.diag.message_primary or "")


def act_for(connection: psycopg.Connection[Any], user_id: str) -> None:
    """Make the transaction act for a user. What is no UUID, such as an attack, is set as it is."""
    signer = connection.signer if isinstance(connection, Session) else None
    try:
        value = signer.sign(UUID(user_id), connection.info.backend_pid) if signer else user_id
    except ValueError:
        value = user_id
    connection.execute("SELECT set_config('app.user_id', %s, true)", (value,))
