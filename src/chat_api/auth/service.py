"""The flows of the auth domain, over PostgreSQL (accounts, refresh tokens) and Redis (live sessions)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from http import HTTPStatus
from uuid import UUID

from psycopg.errors import UniqueViolation

from chat_api.auth import store
from chat_api.auth.passwords import Passwords
from chat_api.auth.schemas import Tokens
from chat_api.auth.sessions import Sessions
from chat_api.auth.tokens import (
    ACCESS_SECONDS,
    REFRESH_LIFETIME,
    AccessTokens,
    Identity,
    RefreshToken,
    new_refresh_token,
    parse_refresh_token,
)
from chat_api.encryption import BlindIndex, Cell, FieldCipher, normal_address
from chat_api.identifiers import uuid7
from chat_api.problems import Problem, unauthorized
from chat_api.stores.postgresql import Connection, PostgreSQL

logger = logging.getLogger(__name__)


class Authentication:
    def __init__(
        self,
        postgresql: PostgreSQL,
        sessions: Sessions,
        access_tokens: AccessTokens,
        field_cipher: FieldCipher,
        email_index: BlindIndex,
    ) -> None:
        self._postgresql = postgresql
        self._sessions = sessions
        self._access_tokens = access_tokens
        self._cipher = field_cipher
        self._email_index = email_index
        self._passwords = Passwords()

    async def register(self, username: str, email: str, password: str) -> UUID:
        """Make an account and return its id; raises a 409 Problem if name or address is taken."""
        user_id = uuid7()
        password_hash = await self._passwords.hash(password)
        try:
            async with self._postgresql.authenticating() as connection:
                await self._refuse_indexed_otherwise(connection, email)
                await store.insert_account(
                    connection,
                    user_id=user_id,
                    profile_id=uuid7(),
                    username=username,
                    email=self._cipher.encrypt(email, Cell("users", "email", user_id)),
                    email_index=self._email_index.of(normal_address(email)),
                    password_hash=password_hash,
                )
        except UniqueViolation:
            raise _taken() from None
        return user_id

    async def _refuse_indexed_otherwise(self, connection: Connection, email: str) -> None:
        """While the index key changes, one address has several indexes, and UNIQUE compares only equal ones."""
        indexes = list(self._email_index.candidates(normal_address(email)).values())
        if len(indexes) > 1:
            # The oldest key is the one that every process has.
            await store.lock_address(connection, indexes[0])
            if await store.account_by_email(connection, indexes):
                raise _taken()

    def limited_subject(self, login: str) -> str:
        """Return what attempts on one account are counted by; it does not name the account to who reads Redis."""
        return self._email_index.of(f"login {normal_address(login)}").hex()

    async def log_in(self, login: str, password: str) -> Tokens:
        """Return tokens of a new session; raises the same 401 Problem whatever was wrong, after the same work."""
        async with self._postgresql.authenticating() as connection:
            if "@" in login:
                indexes = self._email_index.candidates(normal_address(login))
                account = await store.account_by_email(connection, indexes.values())
            else:
                account = await store.account_by_username(connection, login.lower())
        # No connection is held while the hash is computed: there are fewer connections than waiting logins.
        usable = account if account and account.is_active else None
        if not await self._passwords.matches(password, usable.password_hash if usable else None) or usable is None:
            raise unauthorized("The login or the password is wrong.")
        better = await self._passwords.hash(password) if self._passwords.is_outdated(usable.password_hash) else None
        token, identity = new_refresh_token(), Identity(usable.id, uuid7())
        async with self._postgresql.authenticating() as connection:
            await store.record_login(connection, usable.id)
            if better:
                await store.replace_password_hash(connection, usable.id, usable.password_hash, better)
            await store.insert_token(
                connection,
                token,
                user_id=usable.id,
                family_id=identity.session_id,
                expires_at=datetime.now(UTC) + REFRESH_LIFETIME,
            )
            await self._sessions.open(identity)
        return self._tokens(identity, token)

    async def refresh(self, text: str) -> Tokens:
        """Exchange a refresh token for new tokens; a second use of it ends the session of whoever holds its successors.

        Raises a 401 Problem for a token that is unknown, used, revoked or expired (RFC 9700, section 4.14.2).
        """
        used = parse_refresh_token(text)
        if used is None:
            raise unauthorized("The refresh token is not valid.")
        successor = new_refresh_token()
        async with self._postgresql.authenticating() as connection:
            family_id = await store.family_of(connection, used)
            if family_id is None:
                raise unauthorized("The refresh token is not valid.")
            await store.lock_family(connection, family_id)
            rotated = await store.use_token(connection, used)
            if rotated:
                identity = Identity(rotated.user_id, family_id)
                await store.insert_token(
                    connection,
                    successor,
                    user_id=rotated.user_id,
                    family_id=family_id,
                    expires_at=rotated.expires_at,
                )
                # Inside the transaction, so that a revocation that waits for the lock finds the session to end.
                await self._sessions.open(identity)
                return self._tokens(identity, successor)
            live = await store.revoke_family(connection, family_id)
            await self._sessions.end(family_id)
        if live:
            logger.warning("refresh token reused: session %s revoked", family_id)
        raise unauthorized("The refresh token is not valid.")

    async def log_out(self, identity: Identity) -> None:
        """End the session: its access tokens and its refresh tokens are worth nothing from now on."""
        async with self._postgresql.authenticating() as connection:
            await store.lock_family(connection, identity.session_id)
            await store.revoke_family(connection, identity.session_id)
            await self._sessions.end(identity.session_id)

    async def identify(self, access_token: str) -> Identity:
        """Return who sends `access_token`; raises a 401 Problem unless it is valid and its session is live."""
        identity = self._access_tokens.read(access_token)
        if identity is None or not await self._sessions.is_live(identity):
            raise unauthorized()
        return identity

    def _tokens(self, identity: Identity, token: RefreshToken) -> Tokens:
        return Tokens(
            access_token=self._access_tokens.sign(identity), expires_in=ACCESS_SECONDS, refresh_token=token.text
        )


def _taken() -> Problem:
    return Problem(HTTPStatus.CONFLICT, "The username or the email address is taken.")
