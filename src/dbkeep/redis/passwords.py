"""Which passwords let a user in: its own in the vault, and during a rotation the next or the previous one too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbkeep.errors import UsageError
from dbkeep.redis.declared import ADMIN, Declared
from dbkeep.secrets import new_password

NEXT, PREVIOUS = "_next", "_previous"
"""What the vault calls a user's second password: NEXT before the services have it, PREVIOUS after."""

# Redis stores passwords as unsalted SHA-256 (manual, "ACL"): only long random ones withstand guessing.
SHORTEST_PASSWORD = 32
FEWEST_CHARACTERS = 10


def valid(secrets: Mapping[str, str], user: str) -> tuple[str, ...]:
    """Return the passwords that must let `user` in; raises KeyError without one."""
    others = (secrets.get(user + NEXT), secrets.get(user + PREVIOUS))
    return (secrets[user], *(password for password in others if password))


def require_passwords(declared: Declared, secrets: Mapping[str, str]) -> None:
    """Raise UsageError for a user whose password is missing, or for one that may be guessed."""
    for user in declared.acl.users:
        for name in (user, user + NEXT, user + PREVIOUS):
            password = secrets.get(name)
            if password is None and name != user:
                continue
            if not password:
                raise UsageError(f"redis: the password of {name} is missing; run dbkeep init to make one")
            if len(password) < SHORTEST_PASSWORD or len(set(password)) < FEWEST_CHARACTERS:
                random = f"is not {SHORTEST_PASSWORD} random characters"
                raise UsageError(f"redis: the password of {name} {random}; run dbkeep init to make one")


def with_administrator(secrets: Mapping[str, str], stored: Mapping[Path, str]) -> dict[str, str]:
    """Return `secrets` with the administrator's password as this host keeps it; `stored` is what its files hold.

    The vault's own lets the agent in once, before its first apply: a file that holds it gets one made here, which
    nobody else knows. Redis cannot bind a user to the local socket.
    """
    made_here = [password for _, password in sorted(stored.items()) if password and password != secrets[ADMIN]]
    if not stored:
        return dict(secrets)
    return {**secrets, ADMIN: made_here[0] if made_here else new_password()}
