"""Rate limits by the Redis function rate_limit (GCRA)."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from chat_api.problems import Problem
from chat_api.stores.keyspaces import API_LIMITS, AUTH_LIMITS, Use
from chat_api.stores.redis import RedisClients

FUNCTION = "rate_limit"
ALLOWED = 0
"""What the function answers to a call that may go on; any other answer is how many milliseconds it has to wait."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` calls at once, `count` calls per `period_seconds` in the long run, for one subject."""

    name: str
    burst: int
    count: int
    period_seconds: int
    use: Use = API_LIMITS


LOGIN_BY_ACCOUNT = Limit("login-account", burst=5, count=5, period_seconds=300, use=AUTH_LIMITS)
LOGIN_BY_ADDRESS = Limit("login-address", burst=50, count=60, period_seconds=60, use=AUTH_LIMITS)
REGISTER_BY_ADDRESS = Limit("register-address", burst=50, count=60, period_seconds=3600, use=AUTH_LIMITS)
REFRESH_BY_ADDRESS = Limit("refresh-address", burst=100, count=300, period_seconds=60, use=AUTH_LIMITS)
SEND_BY_USER = Limit("send-user", burst=30, count=300, period_seconds=60)
CREATE_BY_USER = Limit("create-user", burst=50, count=120, period_seconds=3600)


class Limits:
    def __init__(self, redis: RedisClients) -> None:
        self._redis = redis

    async def take(self, limit: Limit, subject: str) -> None:
        """Count one call of `subject`; raises a 429 Problem with Retry-After when it has to wait.

        Raises stores.redis.Unavailable when the limit cannot be asked and fails closed.
        """
        words = (limit.use.key(limit.name, subject), str(limit.burst), str(limit.count), str(limit.period_seconds))
        milliseconds = await self._redis.run(limit.use, lambda client: client.fcall(FUNCTION, 1, *words), ALLOWED)
        if milliseconds != ALLOWED:
            wait = math.ceil(milliseconds / 1000)
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS, f"Too many requests. Wait {wait} s.", {"Retry-After": str(wait)}
            )


def network(request: Request) -> str:
    """Return what one client is counted by: its IPv4 address, or the /64 that an IPv6 client owns as a whole."""
    if request.client is None:
        return "unknown"
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
