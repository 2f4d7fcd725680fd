"""The lock that one apply at a time holds on a server."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql.connect import MAINTENANCE, advice, connect
from dbkeep.settings import PostgreSQLSettings

# Any number will do as long as it is always the same: the key of the advisory lock.
KEY = 0x64626B656570
SECONDS = 2


@contextmanager
def held(settings: PostgreSQLSettings) -> Iterator[Callable[[], None]]:
    """Hold the lock, and yield what raises DbkeepError once it is lost: the connection that holds it is gone.

    The server process of a killed apply needs a moment to notice, so the lock is waited for.

    Raises UsageError when somebody else holds it.
    """
    with connect(settings, MAINTENANCE) as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{SECONDS}s"])
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [KEY])
        except psycopg.errors.LockNotAvailable:
            raise UsageError(
                "another apply is running on this server: wait for it and run the same command again"
            ) from None

        def still_held() -> None:
            # The server says nothing to an idle client but that its settings changed or that it ends.
            if select.select([connection], [], [], 0)[0]:
                try:
                    connection.execute("SELECT 1")
                except psycopg.OperationalError as error:
                    raise DbkeepError(advice(error)) from None

        try:
            yield still_held
        finally:
            # Closing the connection would free the lock only when the server gets to it. A lost one has lost its lock.
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT pg_advisory_unlock(%s)", [KEY])
