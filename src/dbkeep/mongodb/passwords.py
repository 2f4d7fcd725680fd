"""Whether a user's password is the declared one."""

from __future__ import annotations

import hmac
from base64 import b64decode
from hashlib import pbkdf2_hmac, sha256

from pymongo.errors import OperationFailure
from pymongo.saslprep import saslprep

from dbkeep.mongodb.connect import LOGON_REFUSED, Client, client
from dbkeep.settings import MongoDBSettings


def accepts(settings: MongoDBSettings, user: str, password: str) -> bool:
    """Return whether a logon as `user` succeeds. A logon is the only way the server compares a password."""
    credentials = {"username": user, "password": password, "authSource": "admin", "authMechanism": "SCRAM-SHA-256"}
    with client(settings, direct=True, **credentials) as attempt:
        try:
            attempt.admin.command("ping")
        except OperationFailure as error:
            if error.code in LOGON_REFUSED:
                return False
            raise
    return True


def is_stored(connection: Client, user: str, password: str) -> bool:
    """Return whether `password` is the one that the server stores for `user`, who may not log on from here.

    It is hashed here as SCRAM-SHA-256 does (RFC 5802, section 3), so it never leaves this process.
    """
    place = "credentials.SCRAM-SHA-256"
    found = connection.admin["system.users"].find_one({"_id": f"admin.{user}"}, {place: 1}) or {}
    stored = found.get("credentials", {}).get("SCRAM-SHA-256")
    if stored is None:
        return False
    prepared = saslprep(password).encode()
    salted = pbkdf2_hmac("sha256", prepared, b64decode(stored["salt"]), int(stored["iterationCount"]))
    key = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return hmac.compare_digest(key, b64decode(stored["storedKey"]))
