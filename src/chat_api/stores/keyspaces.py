"""Every use of Redis by the API: keys and channels, times to live, and what a request does without it.

No other module spells a key. The prefixes and the bounds of the times to live are declared in redis/keyspaces.yml, the
rights of the users in redis/acl.yml.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """What happens when a use gets no answer. What guards something fails closed, what only helps fails open."""

    CLOSED = "closed"
    """The request is answered 503."""
    OPEN = "open"
    """The request goes on without."""


@dataclass(frozen=True, slots=True)
class Use:
    """Who asks which instance for the keys (or publishes on the channels) that begin with `prefix`.

    `seconds` is how long a key lives that this use writes; None if it writes none, or if each call says it.
    """

    prefix: str
    instance: str
    user: str
    fails: Failure
    seconds: int | None = None

    def key(self, *parts: object) -> str:
        """Return the name of one key or channel."""
        return self.prefix + ":".join(map(str, parts))


SESSION_WRITES = Use("sess:", "state", "svc_auth", Failure.CLOSED, seconds=15 * 60)
"""By session id, the user's id. As long as an access token lives: without a refresh nothing could use it any more."""
SESSION_READS = Use("sess:", "state", "svc_api", Failure.CLOSED)

AUTH_LIMITS = Use("rl:auth:", "state", "svc_auth", Failure.CLOSED)
"""By limit and subject, the limiter's state. They guard passwords: without them nobody logs in."""
API_LIMITS = Use("rl:api:", "state", "svc_api", Failure.OPEN)
"""They spread load: a chat that works is worth more than a limit that holds."""

PRESENCE_WRITES = Use("pres:", "state", "svc_api", Failure.CLOSED, seconds=45)
"""By user, the sessions that were heard of, each until when. A client that was not heard must know, to try again."""
PRESENCE_READS = Use("pres:", "state", "svc_api", Failure.OPEN)
"""Without it everybody seems offline."""

PROFILES = Use("cache:profile:", "cache", "svc_api", Failure.OPEN, seconds=60)
"""By user, the own profile as JSON. Without it the profile comes from PostgreSQL."""

WAKE_UPS = Use("conv:", "state", "svc_api", Failure.OPEN)
"""By conversation, a channel. Who misses a wake-up reads the truth from MongoDB."""
SESSION_ENDS = Use("ctl:session-revoked", "state", "svc_auth", Failure.OPEN)
"""The channel on which ended sessions are named. Without it, a connection of theirs lasts until its next request."""

ALL = (
    *(SESSION_WRITES, SESSION_READS, AUTH_LIMITS, API_LIMITS, PRESENCE_WRITES, PRESENCE_READS),
    *(PROFILES, WAKE_UPS, SESSION_ENDS),
)
