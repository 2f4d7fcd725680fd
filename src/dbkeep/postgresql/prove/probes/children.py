"""P16 and P17: what the owner adds to the declared tables is as closed as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from psycopg import sql

from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.reach import Reach
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

API, MIGRATOR = "app_api", "chat_migrator"
CHILD, CHILD_ENDS = b"CREATE TABLE chat.probe_child () INHERITS (chat.settings)", b"DROP TABLE chat.probe_child"
SIDE = b"""
CREATE TABLE chat.probe_side (copied text);
CREATE FUNCTION chat.probe_copy() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
    AS 'BEGIN INSERT INTO chat.probe_side VALUES (NEW::text); RETURN NEW; END';
CREATE TRIGGER probe_copy AFTER INSERT ON chat.settings FOR EACH ROW EXECUTE FUNCTION chat.probe_copy()
"""
SIDE_ENDS = b"""
DROP TRIGGER probe_copy ON chat.settings;
DROP FUNCTION chat.probe_copy();
DROP TABLE chat.probe_side
"""
WRITE = b"INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, 'probe.side', '1')"
UNWRITE = b"DELETE FROM chat.settings WHERE key = 'probe.side'"


@contextmanager
def _added(world: World, make: bytes, end: bytes) -> Iterator[None]:
    """What a person adds who logs on to migrate by hand; taken away again at the end."""
    owner = sql.SQL("SET ROLE {}").format(sql.Identifier(world.declared.scope.owner))
    with world.connect(MIGRATOR) as connection:
        connection.execute(owner)
        with connection.transaction():
            connection.execute(make)
        try:
            yield
        finally:
            with connection.transaction():
                connection.execute(end)


@probe(
    "P16",
    "A child or partition of a table is as closed as the table",
    area="read",
    sources=("PostgreSQL manual 5.10 Inheritance", "pgrls SEC041"),
    live=False,
)
def children(world: World) -> Iterator[Finding]:
    anna, ben = world.people["anna"], world.people["ben"]
    with _added(world, CHILD, CHILD_ENDS):
        world.superuser().execute(WRITE.replace(b"chat.settings", b"chat.probe_child"), [uuid4(), ben.id])
        query = b"SELECT FROM chat.settings WHERE key = 'probe.side'"
        own = world.attempt(API, query, person=ben)
        require(own.rows == 1, f"ben does not see his row of a child through the table ({own})")
        other = world.attempt(API, query, person=anna)
        if not other.is_harmless:
            yield Finding(API, "chat.settings", f"anna sees ben's row of a child through the table: {other}")
        yield from _closed(world, "chat.probe_child")


@probe(
    "P17",
    "What a trigger writes into a table of its own is closed to those whose writes it copies",
    area="read",
    sources=("PostgreSQL manual: CREATE TRIGGER", "PostgreSQL manual: ALTER DEFAULT PRIVILEGES"),
    live=False,
)
def side_tables(world: World) -> Iterator[Finding]:
    ben, session = world.people["ben"], world.session(API)
    with _added(world, SIDE, SIDE_ENDS):
        try:
            with session.transaction():
                world.act_for(session, ben)
                session.execute(WRITE, [uuid4(), ben.id])
            copied = world.superuser().execute("SELECT FROM chat.probe_side").rowcount
            require(copied == 1, f"the trigger copied {copied} rows")
            yield from _closed(world, "chat.probe_side")
            for role in world.login_roles:
                if not world.attempt(role, b"SELECT chat.probe_copy()").is_denied:
                    yield Finding(role, "chat.probe_copy", "a new function of the owner may be called at once")
        finally:
            world.superuser().execute(UNWRITE)


def _closed(world: World, relation: str) -> Iterator[Finding]:
    name = sql.Identifier(*relation.split("."))
    for role in world.login_roles:
        for command, statement in (
            ("SELECT", sql.SQL("SELECT FROM {} LIMIT 1").format(name)),
            ("INSERT", sql.SQL("INSERT INTO {} SELECT WHERE false").format(name)),
            ("DELETE", sql.SQL("DELETE FROM {} WHERE false").format(name)),
            ("TRUNCATE", sql.SQL("TRUNCATE {}").format(name)),
        ):
            reads_all = command == "SELECT" and reach.of(world.declared, role, relation) is Reach.ALL
            tried = world.attempt(role, statement)
            require(tried.is_denied or tried.sqlstate is None, f"{command} on {relation} as {role}: {tried}")
            if not tried.is_denied and not reads_all:
                yield Finding(role, f"{command} {relation}", f"a new table of the owner is open at once: {tried}")
