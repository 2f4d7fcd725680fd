"""Every Redis key of the API, with its time to live: no other module spells a key.

The prefixes and the bounds of their times to live are declared in redis/keyspaces.yml; the rights in redis/acl.yml.
"""

from __future__ import annotations

from uuid import UUID

SESSION_SECONDS = 15 * 60
"""As long as an access token lives: a session that is not refreshed has no token that could still use it."""
PRESENCE_SECONDS = 45
PROFILE_SECONDS = 60


def session(session_id: UUID) -> str:
    """State instance: the user id of a live session; svc_auth writes, svc_api reads."""
    return f"sess:{session_id}"


def presence(user_id: UUID | str) -> str:
    """State instance: exists while the user was heard of lately."""
    return f"pres:{user_id}"


def auth_limit(name: str, subject: str) -> str:
    """State instance: the rate limiter's state for one subject of the auth domain; svc_auth."""
    return f"rl:auth:{name}:{subject}"


def api_limit(name: str, subject: str) -> str:
    """State instance: the rate limiter's state for one subject of any other domain; svc_api."""
    return f"rl:api:{name}:{subject}"


def profile(user_id: UUID) -> str:
    """Cache instance: a user's own profile as JSON, read by that user only."""
    return f"cache:profile:{user_id}"
