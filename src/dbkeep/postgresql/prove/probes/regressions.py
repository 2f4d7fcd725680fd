"""P45 to P49: faults that PostgreSQL once had, tried on the server that is there.

Most of them need one session that changes its role, so they run as superuser in a copy, in transactions that are
rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import Connection, World
from dbkeep.prove.probe import Finding, require

API, AUTH = "app_api", "app_auth"
RECURSION = "42P17"
# Each reads ids of users, in a form that once lost track of whose rights count.
FORMS = {
    "function": "SELECT id FROM chat.probe_ids() AS ids (id)",
    "view": "SELECT id FROM chat.probe_view",
    "WITH": "WITH ids AS (SELECT id FROM chat.users) SELECT id FROM ids",
    "subquery": "SELECT id FROM (SELECT id FROM chat.users OFFSET 0) AS ids",
    "EXISTS": "SELECT id FROM chat.users AS u WHERE EXISTS (SELECT FROM chat.users AS v WHERE v.id = u.id)",
    "LATERAL": "SELECT v.id FROM (VALUES (1)) AS one (n), LATERAL (SELECT id FROM chat.users) AS v",
    "plain": "SELECT id FROM chat.users",
}
HELPERS = (
    "CREATE FUNCTION chat.probe_ids() RETURNS SETOF uuid LANGUAGE sql STABLE AS 'SELECT id FROM chat.users'",
    "CREATE VIEW chat.probe_view WITH (security_invoker = on) AS SELECT id FROM chat.users",
    f"GRANT SELECT ON chat.probe_view TO {API}, {AUTH}",
    f"GRANT EXECUTE ON FUNCTION chat.probe_ids() TO {API}, {AUTH}",
)
LEAKY = (
    """CREATE FUNCTION pg_temp.leaky(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
    AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN false; END'""",
    "CREATE OPERATOR pg_temp.<<< (LEFTARG = text, RIGHTARG = text, PROCEDURE = pg_temp.leaky, RESTRICT = scalarltsel)",
)
# A table with parts, of which the role may read no part itself and of the whole only its own rows.
PARTS = (
    "CREATE TABLE chat.probe_parts (owner text, word text) PARTITION BY LIST (owner)",
    "CREATE TABLE chat.probe_part PARTITION OF chat.probe_parts FOR VALUES IN ('carl')",
    "INSERT INTO chat.probe_parts SELECT 'carl', 'hidden ' || n FROM generate_series(1, 200) AS n",
    "ALTER TABLE chat.probe_parts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    f"CREATE POLICY own ON chat.probe_parts FOR SELECT TO {API} USING (owner = 'anna')",
    f"GRANT SELECT ON chat.probe_parts TO {API}",
    "ANALYZE chat.probe_parts, chat.probe_part",
)
MERGE_BEYOND_CHECK = (
    "CREATE TABLE chat.probe_merge (id int, owner text)",
    "INSERT INTO chat.probe_merge VALUES (1, 'anna')",
    "ALTER TABLE chat.probe_merge ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    f"CREATE POLICY reads ON chat.probe_merge FOR SELECT TO {API} USING (owner = 'anna')",
    f"CREATE POLICY writes ON chat.probe_merge FOR UPDATE TO {API} USING (owner = 'anna') WITH CHECK (owner = 'anna')",
    f"CREATE POLICY adds ON chat.probe_merge FOR INSERT TO {API} WITH CHECK (true)",
    f"GRANT SELECT, INSERT, UPDATE ON chat.probe_merge TO {API}",
)
MERGE = (
    "MERGE INTO chat.probe_merge AS t USING (VALUES (1)) AS s (id) ON t.id = s.id"
    " WHEN MATCHED THEN UPDATE SET owner = 'carl'"
)


@contextmanager
def _spoilt(world: World, *statements: str) -> Iterator[Connection]:
    """A superuser's transaction with `statements` run, in which roles are taken and left; rolled back at its end."""
    connection = world.superuser()
    with connection.transaction(force_rollback=True):
        for statement in statements:
            connection.execute(statement.encode())
        yield connection


def _become(world: World, connection: Connection, role: str) -> None:
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    world.act_for(connection, world.people["anna"])


@probe(
    "P45", "A plan made for one role is not run for another", area="regression",
    sources=("CVE-2016-2193", "CVE-2023-2455"), live=False,
)  # fmt: skip
def plan_across_roles(world: World) -> Iterator[Finding]:
    yield from _forms(world, "plain", "function", "view")


@probe(
    "P46", "A plan with WITH, subqueries or functions follows the role that runs it", area="regression",
    sources=("CVE-2024-10976",), live=False,
)  # fmt: skip
def plan_below_the_top(world: World) -> Iterator[Finding]:
    yield from _forms(world, "WITH", "subquery", "EXISTS", "LATERAL", "function")


def _forms(world: World, *names: str) -> Iterator[Finding]:
    """app_auth sees every user and app_api one: a statement prepared by either runs for both, in one session."""
    everyone = world.seed.ids("chat.users")
    own = world.seed.visible("chat.users", world.people["anna"])
    for name in names:
        for mode in ("auto", "force_generic_plan"):
            for first in (AUTH, API):
                with _spoilt(world, *HELPERS, f"SET LOCAL plan_cache_mode = {mode}") as connection:
                    _become(world, connection, first)
                    connection.execute(f"PREPARE crossing AS {FORMS[name]}".encode())
                    seen = {}
                    for role in (first, AUTH, API, AUTH, API):
                        _become(world, connection, role)
                        seen[role] = {row for (row,) in connection.execute("EXECUTE crossing").fetchall()}
                    connection.execute("DEALLOCATE crossing")
                require(everyone <= seen[AUTH], f"{AUTH} does not see every user through {name}")
                require(own <= seen[API], f"{API} does not see its user through {name}")
                foreign = seen[API] - own
                if foreign:
                    told = f"prepared by {first} ({mode}) it shows {len(foreign)} users to another role"
                    yield Finding(API, name, told)


@probe(
    "P47",
    "MERGE keeps to the policies of UPDATE and SELECT",
    area="regression",
    sources=("CVE-2023-39418",),
    live=False,
)
def merge(world: World) -> Iterator[Finding]:
    """The policy for INSERT allows what those for UPDATE and SELECT do not."""
    with _spoilt(world, *MERGE_BEYOND_CHECK) as connection:
        _become(world, connection, API)
        try:
            with connection.transaction():
                changed = connection.execute(MERGE.encode()).rowcount
        except psycopg.errors.InsufficientPrivilege:
            return
        yield Finding(API, "MERGE", f"{changed} rows were given away")


@probe(
    "P48", "The planner shows no sampled value to an operator that may leak it", area="regression",
    sources=("CVE-2017-7484", "CVE-2019-10130", "CVE-2025-8713"), live=False,
)  # fmt: skip
def leaky_operators(world: World) -> Iterator[Finding]:
    query = "EXPLAIN SELECT FROM {} WHERE {}::text OPERATOR(pg_temp.<<<) 'x'"
    targets = [
        (table, column)
        for role, table in reach.bound_to_user(world.declared)
        if role == API
        for column in _readable(world, table)
    ]
    said: list[str] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        said.append(notice.message_primary or "")

    with _spoilt(world, *PARTS, *LEAKY, "SET LOCAL client_min_messages = notice") as connection:
        connection.add_notice_handler(hear)
        try:
            connection.execute(query.format("chat.probe_part", "word").encode())
            require(said, "the planner does not ask the operator about sampled values at all")
            _become(world, connection, API)
            for table, column in (*targets, ("chat.probe_parts", "word")):
                said.clear()
                connection.execute(query.format(table, column).encode())
                if said:
                    yield Finding(API, f"{table}.{column}", f"the operator was shown {len(said)} sampled values")
        finally:
            connection.remove_notice_handler(hear)


def _readable(world: World, table: str) -> tuple[str, ...]:
    columns = world.declared.roles[API].grants.relations[table]["SELECT"]
    return tuple(world.seed.rows[table][0]) if columns == "all" else columns


@probe("P49", "No policy asks itself", area="regression", sources=("PostgreSQL manual, appendix A: 42P17",))
def recursion(world: World) -> Iterator[Finding]:
    anna = world.people["anna"]
    commands = {
        "SELECT": "SELECT FROM {}", "DELETE": "DELETE FROM {}",
        "UPDATE": "UPDATE {} SET {} = DEFAULT WHERE false", "INSERT": "INSERT INTO {} ({}) SELECT NULL WHERE false",
    }  # fmt: skip
    asked = 0
    for role in world.login_roles:
        for relation, allowed in world.declared.roles[role].grants.relations.items():
            for command, columns in allowed.items():
                if relation not in world.declared.tables:
                    continue
                asked += 1
                column = sql.Identifier("id" if columns == "all" else columns[0])
                statement = sql.SQL("EXPLAIN " + commands[command]).format(sql.Identifier(*relation.split(".")), column)
                tried = world.attempt(role, statement, person=anna)
                if tried.sqlstate == RECURSION:
                    yield Finding(role, f"{command} on {relation}", "the policies ask each other for ever")
    require(asked, "no role is declared to do anything with a table")
