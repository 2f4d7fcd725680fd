"""Fills the chat tables of a throw-away server with as many users as wanted, in the shape the application gives them.

Every constraint holds: the indexes are dropped and made again after the load, which is several times faster than
keeping them, and a foreign key is checked as a whole when its constraint is made again. The server writes the rows into
files and COPYs them from there, frozen, so that each page is written once: with `wal_level` minimal there is no WAL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import Connection, sql

CHUNK = 250_000
SETTINGS_EACH = 3

# The n-th UUIDv7 (RFC 9562): n milliseconds after the first, the rest spread by a hash.
HELPERS = """
CREATE FUNCTION pg_temp.uuid7(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN encode(
    int8send(((1718000000000 + n) << 16) | 28672 | (hashint8extended(n, 1) & 4095))
    || int8send((hashint8extended(n, 2) & 4611686018427387903) | (1::bigint << 63)), 'hex')::uuid;
"""
USERS = """
SELECT pg_temp.uuid7(n), 'e1:' || repeat('x', 80), sha256(n::text::bytea), 'user-' || n,
       '$argon2id$v=19$m=65536,t=3,p=4$' || repeat('s', 22) || '$' || repeat('h', 43)
FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
PROFILES = """
SELECT pg_temp.uuid7(n + 3600000), pg_temp.uuid7(n), 'User ' || n, repeat('bio ', 20)
FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
# Each user has four rows of its own and is the other side of four, far from it in the table: two friendships, a request
# that waits, and a block.
RELATIONSHIPS = """
SELECT pg_temp.uuid7(n * 4 + kind.number), pg_temp.uuid7(n), pg_temp.uuid7((n + distance) %% %(users)s::bigint),
       type, status, timestamptz '2026-01-01' + n * interval '1 second'
FROM generate_series(%(first)s::bigint, %(last)s) AS n, (VALUES
    (0, %(users)s::bigint / 97 + 1, 'friend', 'accepted'), (1, %(users)s::bigint / 11 + 1, 'friend', 'accepted'),
    (2, %(users)s::bigint / 7 + 3, 'friend', 'pending'), (3, %(users)s::bigint / 3 + 5, 'blocked', 'accepted')
) AS kind (number, distance, type, status)
"""
SETTINGS = """
SELECT pg_temp.uuid7(n * 3 + k), pg_temp.uuid7(n), 'setting.s' || k, '"value"'::jsonb
FROM generate_series(%(first)s::bigint, %(last)s) AS n, generate_series(1, %(settings)s::bigint) AS k WHERE n %% 10 = 0
"""
TABLES = {
    "users": ("id, email, email_index, username, password_hash", USERS),
    "profiles": ("id, user_id, display_name, bio", PROFILES),
    "relationships": ("id, user_id, related_user_id, type, status, created_at", RELATIONSHIPS),
    "settings": ("id, user_id, key, value", SETTINGS),
}
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'chat'::regnamespace AND contype IN ('p', 'u', 'f') AND conrelid <> 'chat.context_keys'::regclass
ORDER BY contype = 'f', oid
"""
# Between two that cost the same the planner takes the one that was made later: so they are made in their first order.
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE relnamespace = 'chat'::regnamespace AND indrelid <> 'chat.context_keys'::regclass ORDER BY indexrelid
"""


def fill(connection: Connection, users: int, progress: Callable[[str, float], None] = lambda *_: None) -> None:
    """Make `users` users (at least 1,000), each with a profile and four relationships, every tenth with settings.

    `connection` is a superuser's, in autocommit mode, on empty tables. `progress` hears what is done and how far.
    """
    connection.execute("SET maintenance_work_mem = '1GB'")
    with (
        _without_indexes(connection, progress),
        psycopg.connect(connection.info.dsn, autocommit=True) as maker,
        ThreadPoolExecutor(1) as ahead,
    ):
        maker.execute(HELPERS)
        for table in TABLES:
            # One transaction: rows may only be frozen in a table that it has emptied itself.
            with connection.transaction():
                connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("chat", table)))
                for path, share in _made(maker, ahead, table, users):
                    copy = sql.SQL("COPY {} ({}) FROM {} (FORMAT binary, FREEZE)")
                    columns = sql.SQL(TABLES[table][0])
                    connection.execute(copy.format(sql.Identifier("chat", table), columns, str(path)))
                    progress(table, share)
    for table in TABLES:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier("chat", table)))
        progress(f"vacuum {table}", 1)


def _made(maker: Connection, ahead: ThreadPoolExecutor, table: str, users: int) -> Iterator[tuple[Path, float]]:
    """Yield files with rows of the table, each removed when the next one is asked for, and how far that is.

    While one is read the next one is written.
    """
    ((folder,),) = maker.execute("SELECT current_setting('data_directory')").fetchall()
    chunks = [(first, min(first + CHUNK, users) - 1) for first in range(0, users, CHUNK)]

    def make(number: int) -> Path:
        path = Path(folder) / f"{table}-{number}.rows"
        first, last = chunks[number]
        values = {"first": first, "last": last, "users": users, "settings": SETTINGS_EACH}
        query = psycopg.ClientCursor(maker).mogrify(TABLES[table][1].encode(), values)
        maker.execute(f"COPY ({query}) TO '{path}' (FORMAT binary)".encode())
        return path

    following = ahead.submit(make, 0)
    for done in range(1, len(chunks) + 1):
        path = following.result()
        if done < len(chunks):
            following = ahead.submit(make, done)
        yield path, done / len(chunks)
        path.unlink()


@contextmanager
def _without_indexes(connection: Connection, progress: Callable[[str, float], None]) -> Iterator[None]:
    constraints = connection.execute(CONSTRAINTS).fetchall()
    for table, name, _ in reversed(constraints):
        drop = "ALTER TABLE {} DROP CONSTRAINT {}"
        connection.execute(sql.SQL(drop).format(sql.SQL(table), sql.Identifier(name)))
    indexes = connection.execute(INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(name)))

    def add(rows: list[tuple[str, str, str]]) -> None:
        for table, name, definition in rows:
            text = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
            connection.execute(text.format(sql.SQL(table), sql.Identifier(name), sql.SQL(definition)))
            progress(name, 1)

    yield
    keys = [row for row in constraints if row[2].startswith(("PRIMARY", "UNIQUE"))]
    add(keys)
    for name, definition in indexes:
        connection.execute(definition.encode())
        progress(name, 1)
    add([row for row in constraints if row not in keys])
