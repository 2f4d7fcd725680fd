"""The two tokens: a short-lived signed access token, and an opaque refresh token that is stored only as a hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt

from chat_api.identifiers import uuid7

ACCESS_SECONDS = 15 * 60
REFRESH_LIFETIME = timedelta(days=30)
"""From the login on, not from the last use: a stolen family ends with it."""

_ISSUER = "chat_api"
_ALGORITHM = "HS256"
_REFRESH_FORM = re.compile(r"([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request. The session is the family of refresh tokens that began with one login."""

    user_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """`id.secret`; the secret has 256 random bits, so a plain hash of it cannot be searched (no salt, no slow hash)."""

    id: UUID
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        return f"{self.id.hex}.{self.secret}"

    @property
    def digest(self) -> str:
        """SHA-256 of the secret in hex: what the database holds."""
        return hashlib.sha256(self.secret.encode("ascii")).hexdigest()


def new_refresh_token() -> RefreshToken:
    return RefreshToken(uuid7(), secrets.token_urlsafe(32))


def parse_refresh_token(text: str) -> RefreshToken | None:
    """Return the token that `text` spells, or None for what was never one: no query is spent on that."""
    found = _REFRESH_FORM.fullmatch(text)
    return RefreshToken(UUID(hex=found[1]), found[2]) if found else None


class AccessTokens:
    """Signs and reads access tokens (JWT, RFC 7519, with HMAC-SHA-256; RFC 8725 fixes algorithm and issuer)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "AccessTokens()"

    def sign(self, identity: Identity) -> str:
        now = datetime.now(UTC)
        claims = {
            "iss": _ISSUER,
            "sub": str(identity.user_id),
            "sid": str(identity.session_id),
            "iat": now,
            "exp": now + timedelta(seconds=ACCESS_SECONDS),
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def read(self, token: str) -> Identity | None:
        """Return who `token` was signed for, or None if it is not ours, was changed or has expired."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                options={"require": ["iss", "sub", "sid", "iat", "exp"]},
            )
            return Identity(UUID(claims["sub"]), UUID(claims["sid"]))
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            return None
