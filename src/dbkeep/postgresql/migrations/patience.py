"""Tries again what failed for a lock, with pauses that grow, so that users never wait behind dbkeep for long."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from psycopg import errors

from dbkeep.postgresql.connect import one_line

ATTEMPTS = 8
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 16.0
# What another session caused and a moment may cure: no lock within lock_timeout, a deadlock, a serialisation failure.
PASSING = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)

T = TypeVar("T")
logger = logging.getLogger(__name__)


def patiently(what: str, attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns, calling it at most ATTEMPTS times; it must leave nothing behind when it fails.

    Each pause is logged as a warning that names `what`. Raises the last error, or at once one that waiting cannot cure.
    """
    for number in range(1, ATTEMPTS):
        try:
            return attempt()
        except PASSING as error:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (number - 1)) * secrets.SystemRandom().uniform(0.5, 1)
            logger.warning(
                "%s: %s: trying again in %.1f s (attempt %d of %d)", what, one_line(error), pause, number, ATTEMPTS
            )
            time.sleep(pause)
    return attempt()
