"""SCRAM-SHA-256 verifiers, computed here so that a clear-text password never reaches the server or its log.

RFC 5802 and RFC 7677; the stored form is the one of the manual's pg_authid page:
SCRAM-SHA-256$ITERATIONS:SALT$StoredKey:ServerKey, all three in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

from dbkeep.errors import UsageError

VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")
# The server's own default (scram_iterations); the passwords are random, so more would only slow every log-on down.
ITERATIONS = 4096
SALT_BYTES = 16


def verifier(password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return what pg_authid.rolpassword holds for `password`; the salt is random unless given.

    Raises UsageError unless the password is printable ASCII: only then is it equal to its SASLprep form (RFC 4013).
    """
    if not re.fullmatch(r"[ -~]+", password):
        raise UsageError("a password holds something else than printable ASCII: generate it with `dbkeep init`")
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"


def matches(stored: str | None, password: str) -> bool:
    """Return whether the verifier `stored` belongs to `password`."""
    found = VERIFIER.fullmatch(stored or "")
    if not found:
        return False
    again = verifier(password, salt=base64.b64decode(found[2]), iterations=int(found[1]))
    return hmac.compare_digest(again, found[0])


def is_verifier(stored: str | None) -> bool:
    return bool(VERIFIER.fullmatch(stored or ""))


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
