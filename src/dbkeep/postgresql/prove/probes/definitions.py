"""P30: what no role that logs on may define, empty, take over or run."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from dbkeep.checks.attempts import Statement, attempt
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

# On each table of the declared state, {t}.
ON_TABLE = (
    "TRUNCATE {t}",
    "DROP TABLE {t}",
    "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE {t} ADD COLUMN probe int",
    "ALTER TABLE {t} DISABLE TRIGGER USER",
    "ALTER TABLE {t} SET SCHEMA public",
    "ALTER TABLE {t} OWNER TO CURRENT_USER",
    "CREATE POLICY probe ON {t} USING (true)",
    "CREATE TRIGGER probe BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE probe AS ON INSERT TO {t} DO ALSO NOTHING",
    "CREATE INDEX probe ON {t} ((1))",
    "CREATE STATISTICS chat.probe ON (id::text) FROM {t}",
    "REINDEX TABLE {t}",
    "COMMENT ON TABLE {t} IS 'probe'",
    "COPY {t} FROM '/etc/hostname'",
)
ANYWHERE = (
    "CREATE SCHEMA probe",
    "CREATE TABLE chat.probe ()",
    "CREATE TABLE report.probe ()",
    "CREATE TABLE public.probe ()",
    "CREATE TABLE migration.probe ()",
    "CREATE TEMPORARY TABLE probe ()",
    "CREATE VIEW chat.probe AS SELECT 1",
    "CREATE FUNCTION chat.probe() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION chat.context_is_active() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    "ALTER FUNCTION chat.can_see(uuid) SECURITY INVOKER",
    "DROP FUNCTION chat.set_updated_at() CASCADE",
    "CREATE EXTENSION pg_trgm SCHEMA chat",
    "CREATE ROLE probe",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE postgres PASSWORD NULL",
    "GRANT chat_owner TO CURRENT_USER",
    "GRANT pg_read_all_data TO CURRENT_USER",
    "ALTER DATABASE {d} SET row_security = off",
    "CREATE PUBLICATION probe",
    "CREATE FOREIGN DATA WRAPPER probe",
    "SET LOCAL session_replication_role = replica",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/dbkeep-probe'",
    "DO LANGUAGE plpgsql 'BEGIN EXECUTE ''CREATE TABLE chat.probe ()''; END'",
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_create_physical_replication_slot('probe', false, true)",
    "SELECT pg_switch_wal()",
)
# Before 16 a member may do this without becoming the owner first, which it may do anyway.
AS_OWNER = "ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT SELECT ON TABLES TO PUBLIC"


@probe(
    "P30",
    "No role defines, empties, takes over or runs anything",
    area="write",
    sources=("CIS PostgreSQL 17 4.6", "STIG SV-261884", "STIG SV-261888", "DevSec postgres-17"),
)
def definitions(world: World) -> Iterator[Finding]:
    statements = list(_statements(world))
    require(statements, "nothing is declared")
    for role in world.login_roles:
        able = world.attempt(role, b"SELECT 1")
        require(able.rows == 1, f"{role} cannot run anything ({able})")
        owner = world.declared.scope.owner
        as_owner = AS_OWNER.format(o=owner)
        member = owner in world.declared.roles[role].member_of
        for name, statement in [*statements, *([] if member else [(as_owner, as_owner.encode())])]:
            tried = world.attempt(role, statement)
            if not tried.is_denied:
                yield Finding(role, name, f"is not refused: {tried}")
    if world.is_copy:
        yield from _references(world)


def _statements(world: World) -> Iterator[tuple[str, Statement]]:
    for table in world.declared.tables:
        name = sql.Identifier(*table.split("."))
        for text in ON_TABLE:
            yield text.format(t=table), sql.SQL(text).format(t=name)
    for policy in world.declared.policies:
        for text in ("DROP POLICY {p} ON {t}", "ALTER POLICY {p} ON {t} TO PUBLIC"):
            names = {"p": sql.Identifier(policy.name), "t": sql.Identifier(*policy.table.split("."))}
            yield text.format(p=policy.name, t=policy.table), sql.SQL(text).format(**names)
    for text in ANYWHERE:
        yield text, sql.SQL(text).format(d=sql.Identifier(world.database))


def _references(world: World) -> Iterator[Finding]:
    """A foreign key sees rows whatever the policies say. It takes a place for a table, which is lent."""
    for role in world.login_roles:
        for table in world.declared.tables:
            with world.lent(
                role,
                "CREATE SCHEMA probe",
                f"GRANT ALL ON SCHEMA probe TO {role}",
                f"GRANT USAGE ON SCHEMA chat TO {role}",
            ) as connection:
                plain = attempt(connection, b"CREATE TABLE probe.plain (id uuid)")
                tried = attempt(connection, f"CREATE TABLE probe.child (id uuid REFERENCES {table} (id))".encode())
            require(plain.sqlstate is None, f"{role} cannot make a table where it may ({plain})")
            if not tried.is_denied:
                yield Finding(role, f"REFERENCES {table}", f"is not refused: {tried}")
