"""The value of `app.user_id`: whom a transaction acts for, signed so that SQL alone cannot act for somebody else.

`user.backend_pid.expiry.key.signature`: the signature is the HMAC-SHA-256 (RFC 2104), in hex, of what stands before it;
sql/functions/signed/current_user_id.sql verifies it. A database with a plain context reads the user and nothing else.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from uuid import UUID

from chat_api.key_ring import KeyRing

LIFETIME_SECONDS = 60
"""Longer than any transaction of the API, and than the clocks of its hosts may differ."""


def plain(user_id: UUID) -> str:
    """Return the context of `user_id` for a database that takes it unsigned."""
    return str(user_id)


def signed(user_id: UUID, *, backend_pid: int, key_id: int, key: bytes, expiry: int | None = None) -> str:
    """Return the context of `user_id` in the session of `backend_pid`, valid until `expiry` (seconds since 1970).

    Without `expiry` it is valid for LIFETIME_SECONDS.
    """
    expiry = int(time.time()) + LIFETIME_SECONDS if expiry is None else expiry
    payload = f"{user_id}.{backend_pid}.{expiry}.{key_id}"
    return f"{payload}.{hmac.digest(key, payload.encode('ascii'), 'sha256').hex()}"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the newest key; the others are those that a database accepts too, while one replaces another."""

    keys: KeyRing

    def sign(self, user_id: UUID, backend_pid: int) -> str:
        key_id = self.keys.newest
        return signed(user_id, backend_pid=backend_pid, key_id=key_id, key=self.keys.keys[key_id])
