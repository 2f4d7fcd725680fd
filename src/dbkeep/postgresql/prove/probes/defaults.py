"""P59: is what an owner makes tomorrow closed until it is granted?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

MAKE = (
    "CREATE TABLE {table} AS SELECT 1 AS one",
    "CREATE FUNCTION {function}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
)
DROP = ("DROP FUNCTION IF EXISTS {function}", "DROP TABLE IF EXISTS {table}")
ATTEMPTS = {
    "SELECT": "SELECT FROM {table}",
    "INSERT": "INSERT INTO {table} SELECT 2",
    "UPDATE": "UPDATE {table} SET one = DEFAULT",
    "DELETE": "DELETE FROM {table}",
    "EXECUTE": "SELECT {function}()",
}


@probe(
    "P59", "A new table or function of the owner is closed in every schema until it is granted", area="roles",
    sources=("PostgreSQL manual: ALTER DEFAULT PRIVILEGES", "splinter 0028, 0029"), live=False,
)  # fmt: skip
def later(world: World) -> Iterator[Finding]:
    for schema in world.declared.scope.schemas:
        with _made(world, schema):
            for role in world.login_roles:
                for privilege, statement in ATTEMPTS.items():
                    tried = world.attempt(role, _in(schema, statement))
                    reads_all = reach.READS_ALL in world.declared.roles[role].member_of and privilege == "SELECT"
                    if not tried.is_denied and not reads_all:
                        yield Finding(role, f"{privilege} in {schema}", f"works on what the owner just made: {tried}")


@contextmanager
def _made(world: World, schema: str) -> Iterator[None]:
    """The owner makes a table and a function in `schema`, as a later migration would; they are dropped at the end."""
    connection = world.superuser()
    owner = sql.Identifier(world.declared.scope.owner)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(owner))
            for statement in MAKE:
                connection.execute(_in(schema, statement))
        made = connection.execute(_in(schema, "SELECT FROM {table}")).rowcount
        require(made == 1, f"the owner could not make a table in {schema}")
        yield
    finally:
        for statement in DROP:
            connection.execute(_in(schema, statement))


def _in(schema: str, statement: str) -> sql.Composed:
    return sql.SQL(statement).format(
        table=sql.Identifier(schema, "dbkeep_later"), function=sql.Identifier(schema, "dbkeep_now")
    )
