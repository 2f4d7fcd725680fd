"""Rate limits by the Redis function rate_limit (GCRA), each with its declared failure mode.

What guards passwords fails closed: without the state instance nobody logs in, and the answer is 503. What only spreads
load fails open: a chat that works is worth more than a limit that holds.
"""

from __future__ import annotations

import ipaddress
import logging
import math
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from chat_api.problems import Problem
from chat_api.stores import keyspaces
from chat_api.stores.redis import UNREACHABLE, RedisClients

logger = logging.getLogger(__name__)

FUNCTION = "rate_limit"


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` calls at once, `count` calls per `period_seconds` in the long run, for one subject.

    Limits of the auth domain belong to svc_auth and fail closed; the others belong to svc_api and fail open.
    """

    name: str
    burst: int
    count: int
    period_seconds: int
    auth: bool = False


LOGIN_BY_ACCOUNT = Limit("login-account", burst=5, count=5, period_seconds=300, auth=True)
LOGIN_BY_ADDRESS = Limit("login-address", burst=50, count=60, period_seconds=60, auth=True)
REGISTER_BY_ADDRESS = Limit("register-address", burst=50, count=60, period_seconds=3600, auth=True)
REFRESH_BY_ADDRESS = Limit("refresh-address", burst=100, count=300, period_seconds=60, auth=True)
SEND_BY_USER = Limit("send-user", burst=30, count=300, period_seconds=60)
CREATE_BY_USER = Limit("create-user", burst=50, count=120, period_seconds=3600)


class Limits:
    def __init__(self, redis: RedisClients) -> None:
        self._auth, self._api = redis.state_auth, redis.state

    async def take(self, limit: Limit, subject: str) -> None:
        """Count one call of `subject`; raises a 429 Problem with Retry-After when it has to wait."""
        client, key = (self._auth, keyspaces.auth_limit) if limit.auth else (self._api, keyspaces.api_limit)
        try:
            allowed, _, retry_milliseconds, _ = await client.fcall(
                FUNCTION, 1, key(limit.name, subject), str(limit.burst), str(limit.count), str(limit.period_seconds)
            )
        except UNREACHABLE as error:
            if limit.auth:
                raise
            logger.warning("limit %s not checked: %s", limit.name, type(error).__name__)
            return
        if not allowed:
            wait = max(1, math.ceil(retry_milliseconds / 1000))
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
