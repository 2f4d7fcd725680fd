"""Connects to the local server; what the driver raises becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.settings import PostgreSQLSettings

Connection = psycopg.Connection[tuple[Any, ...]]
# The database that every cluster has, for what cannot run inside the managed one.
MAINTENANCE = "postgres"
OLDEST, NEWEST = 15, 18
# Names in expressions that the server prints back are qualified only when no schema but pg_catalog is searched.
PLAIN_NAMES = "-c search_path= -c idle_in_transaction_session_timeout=60s -c client_min_messages=warning"
SESSION = f"{PLAIN_NAMES} -c lock_timeout=5s"
# A statement that waits for a lock holds up everyone behind it: less than the 2 s that the application waits itself.
SHORT_WAIT = "1s"
BRIEF_SESSION = f"{PLAIN_NAMES} -c lock_timeout={SHORT_WAIT}"


class DatabaseMissingError(UsageError):
    """The server answers and does not have the database."""


@contextmanager
def connect(
    settings: PostgreSQLSettings, database: str | None = None, *, options: str = SESSION
) -> Iterator[Connection]:
    """Yield an autocommit connection to `database` (default: the one of `settings`) and close it.

    `options` are the settings that the session brings along.

    Raises DatabaseMissingError, UsageError when the server cannot be used, and DbkeepError for an error of the server
    inside the block.
    """
    name = database or settings.database
    where = f"PostgreSQL on {settings.socket_directory} port {settings.port}"
    try:
        connection = psycopg.connect(
            host=str(settings.socket_directory), port=settings.port, user=settings.user, dbname=name,
            autocommit=True, connect_timeout=10, application_name="dbkeep", options=options,
        )  # fmt: skip
    except psycopg.OperationalError as error:
        if name != MAINTENANCE and not _exists(settings, name):
            raise DatabaseMissingError(f"{where} has no database {name}: run `dbkeep apply postgresql`") from None
        raise UsageError(f"cannot connect to {where} as {settings.user}: {one_line(error)}") from None
    try:
        with connection:
            major = connection.info.server_version // 10000
            if not OLDEST <= major <= NEWEST:
                raise UsageError(f"{where} is version {major}: dbkeep manages {OLDEST} to {NEWEST}")
            yield connection
    except psycopg.Error as error:
        raise DbkeepError(f"{where}, database {name}: {advice(error)}") from None


def _exists(settings: PostgreSQLSettings, database: str) -> bool:
    """A failed connection carries no code, and its text may be in any language: ask the server's own database."""
    with connect(settings, MAINTENANCE) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [database])
        return found.fetchone() is not None


def advice(error: psycopg.Error) -> str:
    """Return `one_line`, and what to do when not the statement but the moment was wrong: a lost connection, a lock."""
    again = ": run the same command again" if isinstance(error, psycopg.OperationalError) else ""
    return f"{one_line(error)}{again}"


def one_line(error: psycopg.Error) -> str:
    """Return the server's or libpq's message on one line, with the detail that names what is in the way."""
    message = error.diag.message_primary or str(error) or type(error).__name__
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    return " ".join(f"{message}{detail}".split())
