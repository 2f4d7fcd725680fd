"""The secrets of an environment: which ones there must be, how new ones are made, which ones are refused."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyrage

from dbkeep.backup.signature import new_signing_key
from dbkeep.engines import NAMES, engine
from dbkeep.errors import UsageError
from dbkeep.tls import new_private_key

VARIABLE = "dbkeep_secrets"

_PLACEHOLDER = re.compile(r"change.?me|replace|example|password|secret", re.IGNORECASE)
# Their own words are no placeholder.
_KEY_FORMATS = ("-----BEGIN PRIVATE KEY-----", "AGE-SECRET-KEY-1")
# 128 bits in base64 are 22 characters; everything made here has 256 bits in 43.
_SHORTEST = 32
_FEWEST_DIFFERENT = 10

Wanted = dict[tuple[str, ...], Callable[[], str]]


def new_password() -> str:
    """Return 256 random bits, safe in URLs, shells and Redis ACL files; starts with a letter or digit."""
    while True:
        value = secrets.token_urlsafe(32)
        if value[0].isalnum() and not _PLACEHOLDER.search(value):
            return value


def new_keyfile() -> str:
    """Return a MongoDB keyfile: base64 characters only, at most 1024 (manual: "Keyfile Security")."""
    return base64.b64encode(secrets.token_bytes(567)).decode()


def new_age_identity() -> str:
    """Return a new age identity (X25519), which decrypts backups and is never stored on a database host."""
    return str(pyrage.x25519.Identity.generate())


def age_recipient(identity: str) -> str:
    """Return the public recipient of an age identity, of the first one of several lines: that is the newest.

    Raises UsageError when it is not one.
    """
    try:
        return str(pyrage.x25519.Identity.from_str(identity.partition("\n")[0].strip()).to_public())
    except pyrage.IdentityError as error:
        raise UsageError(f"{VARIABLE}.backup.age_identity is not an age identity: {error}") from None


def engine_users(root: Path) -> dict[str, list[str]]:
    """Return, for each engine, the users that the declared state in `root` gives a password."""
    return {name: (face := engine(name)).users(face.read_declared(root)) for name in NAMES}


def wanted(users: dict[str, list[str]]) -> Wanted:
    """Return every secret an environment needs, by its path below dbkeep_secrets, with what makes a new one."""
    makers: Wanted = {("ca_private_key",): new_private_key, ("mongodb_keyfile",): new_keyfile}
    for name, members in users.items():
        makers |= {(name, user): new_password for user in members}
    makers["postgresql", "context_key"] = new_password
    makers |= {
        ("backup", "pgbackrest_cipher_pass"): new_password,
        ("backup", "age_identity"): new_age_identity,
        ("backup", "signing_key"): new_signing_key,
    }
    makers |= {("chat_api", key): new_password for key in ("token_key", "field_key", "blind_index_key")}
    return makers


def add_missing(present: dict[str, Any], needs: Wanted) -> tuple[dict[str, Any], list[str]]:
    """Return `present` completed with new secrets, and the dotted names of those that were added."""
    complete, added = deepcopy(present), []
    for path, make in needs.items():
        folder = complete
        for part in path[:-1]:
            # A key without a value, as in the example, is a folder to fill.
            folder[part] = folder.get(part) or {}
            folder = folder[part]
        if folder.get(path[-1]) is None:
            folder[path[-1]] = make()
            added.append(".".join(path))
    return complete, added


def faults(present: dict[str, Any], needs: Wanted) -> list[str]:
    """Return one line for every secret that is missing, empty, guessable or used twice; never a value."""
    values = dict(_leaves(present))
    lines = [f"{VARIABLE}.{'.'.join(path)} is missing" for path in needs if path not in values]
    seen: dict[str, str] = {}
    for path, value in values.items():
        name = f"{VARIABLE}.{'.'.join(path)}"
        reason = _fault(value)
        if reason is None and seen.setdefault(value, name) != name:
            reason = f"is the same as {seen[value]}"
        if reason:
            lines.append(f"{name} {reason}")
    return lines


def _fault(value: Any) -> str | None:
    if value is None or not str(value).strip():
        return "is empty"
    if not isinstance(value, str):
        return "is not a string"
    if _PLACEHOLDER.search(value) and not value.startswith(_KEY_FORMATS):
        return "is a placeholder, not a secret"
    if len(value) < _SHORTEST or len(set(value)) < _FEWEST_DIFFERENT:
        return f"is guessable: it needs at least {_SHORTEST} random characters"
    return None


def _leaves(tree: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*at, str(key)))
        else:
            yield (*at, str(key)), value
