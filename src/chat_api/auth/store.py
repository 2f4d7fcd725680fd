"""What the auth domain reads and writes in PostgreSQL, as app_auth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chat_api.auth.tokens import RefreshToken
from chat_api.stores.postgresql import Connection


@dataclass(frozen=True, slots=True)
class Account:
    id: UUID
    is_active: bool
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rotated:
    user_id: UUID
    family_id: UUID
    expires_at: datetime


async def insert_account(
    connection: Connection,
    *,
    user_id: UUID,
    profile_id: UUID,
    username: str,
    email: str,
    email_index: bytes,
    password_hash: str,
) -> None:
    """Make user and profile. `email` is the encrypted value. Raises UniqueViolation for a taken name or address."""
    await connection.execute(
        "INSERT INTO chat.users (id, email, email_index, username, password_hash) VALUES (%s, %s, %s, %s, %s)",
        (user_id, email, email_index, username, password_hash),
    )
    await connection.execute(
        "INSERT INTO chat.profiles (id, user_id, display_name) VALUES (%s, %s, %s)", (profile_id, user_id, username)
    )


async def account_by_email(connection: Connection, email_indexes: Collection[bytes]) -> Account | None:
    """Return the account with any of the indexes of one address."""
    found = await connection.execute(
        "SELECT id, is_active, password_hash FROM chat.users WHERE email_index = ANY(%s)", (list(email_indexes),)
    )
    row = await found.fetchone()
    return Account(**row) if row else None


async def lock_address(connection: Connection, email_index: bytes) -> None:
    """Let nobody else register this address until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (email_index.hex(),))


async def account_by_username(connection: Connection, username: str) -> Account | None:
    found = await connection.execute(
        "SELECT id, is_active, password_hash FROM chat.users WHERE username = %s", (username,)
    )
    row = await found.fetchone()
    return Account(**row) if row else None


async def record_login(connection: Connection, user_id: UUID) -> None:
    await connection.execute("UPDATE chat.users SET last_login_at = now() WHERE id = %s", (user_id,))


async def replace_password_hash(connection: Connection, user_id: UUID, old: str, new: str) -> None:
    """Store the better hash of the same password, unless the password was changed meanwhile."""
    await connection.execute(
        "UPDATE chat.users SET password_hash = %s WHERE id = %s AND password_hash = %s", (new, user_id, old)
    )


async def insert_token(
    connection: Connection, token: RefreshToken, *, user_id: UUID, family_id: UUID, expires_at: datetime
) -> None:
    await connection.execute(
        "INSERT INTO chat.refresh_tokens (id, user_id, family_id, token, expires_at) VALUES (%s, %s, %s, %s, %s)",
        (token.id, user_id, family_id, token.digest, expires_at),
    )


async def family_of(connection: Connection, token: RefreshToken) -> UUID | None:
    """Return the family of a token that exists, used or not."""
    found = await connection.execute(
        "SELECT family_id FROM chat.refresh_tokens WHERE id = %s AND token = %s", (token.id, token.digest)
    )
    row = await found.fetchone()
    return row["family_id"] if row else None


async def lock_family(connection: Connection, family_id: UUID) -> None:
    """Let nobody else rotate or revoke this family until the transaction ends.

    Row locks are not enough: a revocation that waits for a rotation does not see the successor it made.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (str(family_id),))


async def use_token(connection: Connection, token: RefreshToken) -> Rotated | None:
    """Mark a token used and return its family, or None if it is used, revoked, expired or its user inactive."""
    found = await connection.execute(
        """
        UPDATE chat.refresh_tokens AS token SET revoked = true, revoked_at = now()
          FROM chat.users
         WHERE token.id = %s AND token.token = %s AND NOT token.revoked AND token.expires_at > now()
           AND users.id = token.user_id AND users.is_active
        RETURNING token.user_id, token.family_id, token.expires_at
        """,
        (token.id, token.digest),
    )
    row = await found.fetchone()
    return Rotated(**row) if row else None


async def revoke_family(connection: Connection, family_id: UUID) -> int:
    """Revoke every live token of a family; returns how many there were."""
    done = await connection.execute(
        "UPDATE chat.refresh_tokens SET revoked = true, revoked_at = now() WHERE family_id = %s AND NOT revoked",
        (family_id,),
    )
    return done.rowcount
