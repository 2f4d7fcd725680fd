"""Digests of PostgreSQL's tables as they are at a restore point, without a lock and without waiting for a writer.

No query can be made to see exactly what recovery to a restore point will show. But the database is seen just before it
and a moment after it: what is the same in both views is the same in between, and its digest is the restore point's.
Where somebody wrote at that very moment there is no digest, and the counts' bounds are what is known.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from psycopg import errors, sql

from dbkeep.postgresql.connect import Connection, connect
from dbkeep.settings import PostgreSQLSettings

SCHEMA = "chat"
# A commit is in the log a little before others see it. The second view waits for those that were.
MOMENT_SECONDS = 0.1
# What changes how a value is printed (PostgreSQL manual, "Client Connection Defaults"), and the end of an idle reader.
SESSION = (
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'iso_8601'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 3",
    "SET bytea_output = 'hex'",
    "SET lc_monetary = 'C'",
    "SET idle_in_transaction_session_timeout = '1h'",
)
_TABLES = """
SELECT relname, pg_relation_filenode(oid), pg_table_size(oid) FROM pg_class
WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r' ORDER BY 3, 1
"""
# A sum does not depend on the order of rows. The text of a row is there for every type, and takes four times as long.
_BY_VALUE = "SELECT coalesce(sum(hash_record_extended(t, 0)::numeric), 0)::text FROM {} AS t"
_BY_TEXT = 'SELECT coalesce(sum(hashtextextended(t::text COLLATE "C", 0)::numeric), 0)::text FROM {} AS t'


class TableDigests:
    """Looks twice at the database, on two connections that are there before the moment; `read` then compares.

    As a context manager it closes them at the end. Raises DbkeepError for an error of the server.
    """

    def __init__(self, settings: PostgreSQLSettings) -> None:
        self._stack = ExitStack()
        self._waiting = [self._stack.enter_context(connect(settings)) for _ in range(2)]
        for connection in self._waiting:
            prepare_session(connection)
        self._files = _files(self._waiting[0])
        self._views: list[tuple[Connection, str]] = []
        self._seen = 0.0

    def __enter__(self) -> TableDigests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    @contextmanager
    def kept(self) -> Iterator[TableDigests]:
        """Close the connections when the block fails, and keep them when it ends well."""
        with self._stack:
            yield self
            self._stack = self._stack.pop_all()

    def look(self) -> None:
        """See the database as it is now, the second time not before the first one's commits are visible."""
        time.sleep(max(0.0, self._seen + MOMENT_SECONDS - time.monotonic()) if self._views else 0.0)
        connection = self._waiting[len(self._views)]
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
        self._views.append((connection, str(row[0]) if row else ""))
        self._seen = time.monotonic()

    def read(self, mebibytes: int) -> dict[str, str]:
        """Return the digests of the tables that both views agree on.

        Tables are taken from the smallest on while they have at most so many mebibytes in all: each is read once, twice
        when anything was written between the views.
        """
        (first, before), (second, after) = self._views
        try:
            found = {name: digest(first, name) for name in _within(first, mebibytes)}
            if before != after:
                found = {name: value for name, value in found.items() if digest(second, name) == value}
        except errors.UndefinedTable:
            # Dropped or renamed just now: none of the names is sure to be what it was.
            return {}
        # TRUNCATE and rewrites empty a table for older views too (PostgreSQL manual, "Caveats" of MVCC).
        still = _files(second)
        return {name: value for name, value in found.items() if still.get(name) == self._files.get(name)}


def prepare_session(connection: Connection) -> None:
    """Make the values of a connection print as those of every other one that is prepared."""
    for setting in SESSION:
        connection.execute(setting)


def digest(connection: Connection, name: str) -> str:
    """Return the digest of the rows of a table, such as chat.users, whatever their order.

    The connection is one that `prepare_session` prepared and row security does not bind.
    """
    table = sql.Identifier(*name.split(".", 1))
    try:
        with connection.transaction():
            return f"values:{_sum(connection, sql.SQL(_BY_VALUE).format(table))}"
    except errors.UndefinedFunction:  # a column's type has no hash function: json, xml, geometry
        return f"texts:{_sum(connection, sql.SQL(_BY_TEXT).format(table))}"


def _sum(connection: Connection, query: sql.Composed) -> str:
    row = connection.execute(query).fetchone()
    return str(row[0]) if row else ""


def _within(connection: Connection, mebibytes: int) -> list[str]:
    names, left = [], mebibytes << 20
    for table, _, size in connection.execute(_TABLES, [SCHEMA]):
        left -= size
        if left < 0:
            break
        names.append(f"{SCHEMA}.{table}")
    return names


def _files(connection: Connection) -> dict[str, int]:
    return {f"{SCHEMA}.{table}": file for table, file, _ in connection.execute(_TABLES, [SCHEMA])}
