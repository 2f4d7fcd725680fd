"""Password hashing with Argon2id, bounded so that a flood of logins cannot take all memory."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chat_api.problems import unavailable

T = TypeVar("T")

CONCURRENT_HASHES = 4
"""Each takes 64 MiB while it runs (the second recommendation of RFC 9106, section 4, which argon2-cffi defaults to)."""
WAIT_SECONDS = 5.0


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._slots = asyncio.Semaphore(CONCURRENT_HASHES)
        # What an unknown user's password is compared with, so that the answer takes as long as for a known one.
        self._nobody = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Return an encoded Argon2id hash of `password` with a fresh salt; raises a 503 Problem under overload."""
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Return whether `password` has `password_hash`; with None the work is done all the same, for nothing.

        Raises a 503 Problem under overload.
        """
        matched = await self._run(lambda: self._verify(password_hash or self._nobody, password))
        return matched and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise unavailable() from None
        try:
            return await asyncio.to_thread(work)
        finally:
            self._slots.release()
