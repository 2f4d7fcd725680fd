"""Counts and digests of PostgreSQL's tables at a restore point, without a lock and without waiting for a writer.

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

from dbkeep.backup.manifest import Count
from dbkeep.postgresql.connect import Connection, connect
from dbkeep.settings import PostgreSQLSettings

SCHEMA = "chat"
# A commit is in the log a little before others see it. The second view waits for those that were.
MOMENT_SECONDS = 0.1
# What changes how a value is printed (PostgreSQL manual, "Client Connection Defaults"), the end of an idle reader, and
# what each process of a parallel count would compile anew.
SESSION = (
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'iso_8601'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 3",
    "SET bytea_output = 'hex'",
    "SET lc_monetary = 'C'",
    "SET idle_in_transaction_session_timeout = '1h'",
    "SET jit = off",
)
_TABLES = """
SELECT relname, pg_relation_filenode(oid), pg_table_size(oid) FROM pg_class
WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r' ORDER BY 3, 1
"""
_COUNTED = "SELECT relname, relkind FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p')"
# No row takes less: its header and what points to it (PostgreSQL manual, "Database Page Layout").
SMALLEST_ROW = 28
# A sum does not depend on the order of rows. The text of a row is there for every type, and takes four times as long.
_BY_VALUE = "SELECT coalesce(sum(hash_record_extended(t, 0)), 0)::text FROM {} AS t"
_BY_TEXT = 'SELECT coalesce(sum(hashtextextended(t::text COLLATE "C", 0)), 0)::text FROM {} AS t'


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
        self._most_rows = _bytes(self._waiting[0]) // SMALLEST_ROW
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

    def counts(self) -> dict[str, Count]:
        """Return the rows of every table: as both views have them, so exact when nothing was written between them.

        Each table is read once, twice when anything was written. One that was dropped, emptied or rewritten since has
        the bounds that the size of all tables was.
        """
        (first, before), (second, after) = self._views
        then = _counts(first)
        now = then if before == after else _counts(second)
        # TRUNCATE and rewrites empty a table for older views too (PostgreSQL manual, "Caveats" of MVCC).
        still = _files(second)
        changed = {name for name in self._files.keys() | still.keys() if self._files.get(name) != still.get(name)}
        found = {}
        for name in sorted(then.keys() | now.keys()):
            numbers = [then.get(name, 0), now.get(name, 0)]
            unsure = None in numbers or name in changed or (changed and name not in self._files)
            sure = [number for number in numbers if number is not None]
            found[name] = Count(low=min(sure), high=max(sure)) if not unsure else Count(low=0, high=self._most_rows)
        return found

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


def _bytes(connection: Connection) -> int:
    return sum(size for *_, size in connection.execute(_TABLES, [SCHEMA]))


def _counts(connection: Connection) -> dict[str, int | None]:
    """Return the rows of each table as the connection's view has it, None for one that was dropped since."""
    names = [f"{SCHEMA}.{table}" for table, _ in connection.execute(_COUNTED, [SCHEMA])]
    return {name: _count(connection, name) for name in names}


def _count(connection: Connection, name: str) -> int | None:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*name.split(".", 1)))
    try:
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except errors.UndefinedTable:
        return None
    return int(row[0]) if row else 0
