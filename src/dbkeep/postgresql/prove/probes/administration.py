"""P51 to P56: settings, triggers, roles, grants, databases and schemas: what no role of the database may change."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
from psycopg import sql

from dbkeep.postgresql import statements
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

INSUFFICIENT_PRIVILEGE = "42501"
FORBIDDEN_TO_ALL = "0A000"  # ALTER SYSTEM where allow_alter_system is off (17 and newer)
OUTSIDER = "dbkeep_outsider"
# Each fails for another reason where it is allowed, so that nothing is ever made or changed.
ADMINISTRATION = {
    "CREATE DATABASE": "CREATE DATABASE dbkeep_probe TEMPLATE dbkeep_no_such_database",
    "ALTER SYSTEM": "ALTER SYSTEM SET log_statement = 'no such value'",
    "replication slot": "SELECT pg_create_physical_replication_slot('No Such Name', false, true)",
    "CREATE ROLE": "CREATE ROLE dbkeep_probe IN ROLE dbkeep_no_such_role",
    "superuser setting": "SET log_statement = 'no such value'",
}
PRIVILEGES = """
SELECT c.relacl::text, ARRAY(SELECT a.attacl::text FROM pg_attribute a WHERE a.attrelid = c.oid ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = %s
"""
STAMPED = """
SELECT n.nspname || '.' || c.relname FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = ANY(%s) AND a.attname = 'updated_at' AND NOT a.attisdropped ORDER BY 1
"""


@probe(
    "P51", "A session starts with the settings that are declared for its role", area="roles",
    sources=("STIG SV-261899", "PostgreSQL manual: ALTER ROLE ... SET"),
)  # fmt: skip
def settings(world: World) -> Iterator[Finding]:
    for role in world.login_roles:
        declared = {"row_security": "on", **world.declared.roles[role].settings}
        with world.connect(role, options="") as connection:
            for name, value in declared.items():
                shown = "SELECT current_setting(%s)"
                started = connection.execute(shown, [name]).fetchone()
                # The server shows "60s" as "1min": let it show the declared value too.
                with connection.transaction(force_rollback=True):
                    connection.execute("SELECT set_config(%s, %s, true)", [name, value])
                    wanted = connection.execute(shown, [name]).fetchone()
                if started != wanted:
                    yield Finding(role, name, f"is {started and started[0]}, not {value}")


@probe(
    "P52", "The database keeps updated_at, whatever a writer says", area="write",
    sources=("PostgreSQL manual: CREATE TRIGGER",), live=False,
)  # fmt: skip
def updated_at(world: World) -> Iterator[Finding]:
    connection = world.superuser()
    tables = [name for (name,) in connection.execute(STAMPED, [list(world.declared.tables)]).fetchall()]
    require(tables, "no table has updated_at")
    for table in tables:
        update = sql.SQL("UPDATE {} SET updated_at = 'epoch' RETURNING updated_at = now()")
        with connection.transaction(force_rollback=True):
            kept = connection.execute(update.format(statements.qualified(table))).fetchall()
        require(kept, f"{table} is empty")
        if kept != [(True,)] * len(kept):
            yield Finding("everyone", f"{table}.updated_at", "is what the writer says")


@probe(
    "P53", "No role makes roles, databases or replication slots, or changes the server", area="roles",
    sources=("CIS PostgreSQL 17 4.3", "STIG SV-261885", "STIG SV-261924"),
)  # fmt: skip
def administration(world: World) -> Iterator[Finding]:
    for role in world.login_roles:
        with world.connect(role) as connection:
            for name, statement in ADMINISTRATION.items():
                state = _refusal(connection, sql.SQL(statement))
                if state not in (INSUFFICIENT_PRIVILEGE, FORBIDDEN_TO_ALL):
                    yield Finding(role, name, f"is not refused ({state or 'works'})")


def _refusal(connection: psycopg.Connection[tuple[object, ...]], statement: sql.SQL | sql.Composed) -> str | None:
    """Return the code that a statement outside a transaction is refused with, None when it works."""
    try:
        connection.execute(statement)
    except psycopg.DatabaseError as error:
        return error.sqlstate
    return None


@probe(
    "P54", "No role gives to others what it has", area="roles",
    sources=("PostgreSQL manual: GRANT, WITH GRANT OPTION, WITH ADMIN OPTION",),
)  # fmt: skip
def giving(world: World) -> Iterator[Finding]:
    for role in world.login_roles:
        granted = world.declared.roles[role].grants
        for relation, allowed in granted.relations.items():
            for privilege, columns in allowed.items():
                what = statements.privileges([(privilege, () if columns == "all" else columns)])
                if _gives(world, role, relation, what):
                    yield Finding(role, f"{privilege} on {relation}", "can be given to everybody")
        others = [name for name in world.declared.roles if name != role]
        for group in {*others, *world.declared.roles[role].member_of}:
            give = sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(others[0]))
            if group != others[0] and not world.attempt(role, give).is_denied:
                yield Finding(role, f"membership of {group}", "can be given to others")


def _gives(world: World, role: str, relation: str, what: sql.Composable) -> bool:
    """A GRANT of what one has, without the option to, is a warning and does nothing: look whether it did."""
    connection = world.session(role)
    with connection.transaction(force_rollback=True):
        before = connection.execute(PRIVILEGES, [relation]).fetchall()
        try:
            with connection.transaction():
                connection.execute(statements.grant(what, "TABLE", statements.qualified(relation), "PUBLIC"))
        except psycopg.errors.InsufficientPrivilege:
            return False
        return connection.execute(PRIVILEGES, [relation]).fetchall() != before


@probe(
    "P55", "No role enters another database, and no other role enters this one", area="roles",
    sources=("CIS PostgreSQL 17 4.10", "DevSec postgres-17"), live=False,
)  # fmt: skip
def databases(world: World) -> Iterator[Finding]:
    connection = world.superuser()
    known = {world.database, world.declared.scope.database}
    names = [
        name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
        if name not in known
    ]  # fmt: skip
    require(names, "there is no other database")
    for role in world.login_roles:
        for name in names:
            if _enters(world, role, dbname=name):
                yield Finding(role, f"database {name}", "can be entered")
    password = secrets.token_urlsafe(24)
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(OUTSIDER), sql.Literal(password))
    )
    try:
        if _enters(world, world.login_roles[0], user=OUTSIDER, password=password):
            yield Finding("a role without any grant", f"database {world.declared.scope.database}", "can be entered")
    finally:
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(OUTSIDER)))


def _enters(world: World, role: str, **options: str) -> bool:
    try:
        world.connect(role, **options).close()
    except psycopg.OperationalError as error:
        require("permission denied for database" in str(error), f"the connection failed otherwise: {error}")
        return False
    return True


@probe(
    "P56", "No role uses or fills a schema that is not declared for it, nor makes schemas or temporary tables",
    area="roles", sources=("CIS PostgreSQL 17 4.10", "DevSec postgres-17", "CVE-2018-1058"),
)  # fmt: skip
def places(world: World) -> Iterator[Finding]:
    scope = world.declared.scope
    for role in world.login_roles:
        granted = world.declared.roles[role].grants
        for schema in (*scope.managed_schemas, *scope.closed_to_public.schemas):
            held = granted.schemas.get(schema, ())
            used = world.attempt(role, "SELECT to_regclass(%s)", [f"{schema}.dbkeep_probe"])
            require("USAGE" not in held or not used.is_denied, f"{role} cannot use schema {schema}, as declared")
            if "USAGE" not in held and not used.is_denied:
                yield Finding(role, f"schema {schema}", "can be used")
            make = sql.SQL("CREATE TABLE {} ()").format(sql.Identifier(schema, "dbkeep_probe"))
            if "CREATE" not in held and not world.attempt(role, make).is_denied:
                yield Finding(role, f"schema {schema}", "can be filled")
        for privilege, statement in (
            ("CREATE", b"CREATE SCHEMA dbkeep_probe"),
            ("TEMPORARY", b"CREATE TEMPORARY TABLE dbkeep_probe ()"),
        ):
            if privilege not in granted.database and not world.attempt(role, statement).is_denied:
                yield Finding(role, f"{privilege} on the database", "works")
