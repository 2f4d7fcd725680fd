"""P57: does row security bind the owner of the tables in every command, as FORCE says?"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from dbkeep.checks.attempts import Statement, attempt
from dbkeep.postgresql import statements
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require


@probe(
    "P57", "Whoever becomes the owner to migrate reads, adds, changes and removes no row of a user", area="write",
    sources=("CIS PostgreSQL 17 4.7", "PostgreSQL manual 5.9 Row Security Policies"), live=False,
)  # fmt: skip
def owner(world: World) -> Iterator[Finding]:
    owner_role = world.declared.scope.owner
    members = [role for role in world.login_roles if owner_role in world.declared.roles[role].member_of]
    require(members, f"no role is declared to become {owner_role}")
    for role in members:
        with world.connect(role) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner_role)))
            contexts = [None, *(world.context(world.people[name], connection) for name in ("anna", "dora"))]
            for table in world.declared.tables:
                for command, statement in _attempts(world, table):
                    for context in contexts:
                        done = attempt(connection, statement, user_id=context)
                        # The owner has every privilege: without a policy it is refused new rows, and finds no others.
                        bound = done.is_denied if command == "INSERT" else (done.rows, done.sqlstate) == (0, None)
                        if not bound:
                            yield Finding(f"{role} as {owner_role}", f"{command} {table}", str(done))


def _attempts(world: World, table: str) -> Iterator[tuple[str, Statement]]:
    """Statements that reach for every row. A row that is there already is refused by the policies before its key."""
    name = statements.qualified(table)
    yield "SELECT", sql.SQL("SELECT FROM {}").format(name)
    yield "UPDATE", sql.SQL("UPDATE {} SET id = DEFAULT").format(name)
    yield "DELETE", sql.SQL("DELETE FROM {}").format(name)
    if table not in world.seed.rows:
        yield "INSERT", sql.SQL("INSERT INTO {} DEFAULT VALUES").format(name)
        return
    for name_of_owner in ("anna", "dora"):
        row = _row(world, table, name_of_owner)
        yield (
            "INSERT",
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                name,
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(map(sql.Literal, row.values())),
            ),
        )


def _row(world: World, table: str, person: str) -> dict[str, object]:
    own = world.seed.own(table, world.people[person])
    rows = [row for row in world.seed.rows[table] if row["id"] in own]
    require(rows, f"{person} owns no row of {table}")
    return rows[0]
