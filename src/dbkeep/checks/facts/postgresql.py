"""A PostgreSQL cluster as its catalogs describe it, read as superuser over the local socket.

The catalogs are those of the manual's part VII ("System Catalogs", "System Views"), PostgreSQL 15 and newer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from dbkeep.checks.facts.files import describe_files
from dbkeep.engines import required_settings
from dbkeep.postgresql.connect import connect
from dbkeep.settings import PostgreSQLSettings

# Debian's pg_ctlcluster writes the log there (postgresql-common).
LOGS = "/var/log/postgresql/*.log"
ROTATION = ("/usr/sbin/logrotate", "/etc/logrotate.d/postgresql-common")
SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name IN (
    'ssl', 'ssl_min_protocol_version', 'password_encryption', 'listen_addresses', 'port', 'unix_socket_permissions',
    'data_checksums', 'data_directory', 'data_directory_mode', 'fsync', 'full_page_writes', 'archive_mode',
    'log_connections', 'log_disconnections', 'log_parameter_max_length', 'log_parameter_max_length_on_error',
    'log_min_duration_statement', 'log_min_error_statement', 'log_statement', 'log_line_prefix', 'debug_print_parse',
    'debug_print_rewritten', 'debug_print_plan', 'shared_preload_libraries', 'pgaudit.log_parameter', 'pgaudit.log',
    'allow_system_table_mods', 'zero_damaged_pages', 'ignore_system_indexes', 'authentication_timeout',
    'config_file', 'hba_file', 'ident_file', 'allow_alter_system', 'ssl_ciphers', 'pgaudit.log_catalog',
    'log_replication_commands', 'log_lock_waits', 'log_checkpoints', 'log_hostname', 'log_timezone',
    'max_slot_wal_keep_size')
"""

QUERIES: dict[str, LiteralString] = {
    "hba": """
        SELECT line_number, type, database, user_name, address, netmask, auth_method, options, error
        FROM pg_hba_file_rules ORDER BY line_number""",
    "file_errors": "SELECT sourcefile, sourceline, name, error FROM pg_file_settings WHERE error IS NOT NULL",
    "roles": """
        SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolcreaterole AS createrole, r.rolcreatedb AS createdb,
            r.rolreplication AS replication, r.rolbypassrls AS bypassrls, r.rolcanlogin AS login,
            r.rolconnlimit AS connection_limit,
            CASE WHEN a.rolpassword IS NULL THEN 'none' WHEN a.rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram'
                ELSE 'other' END AS verifier
        FROM pg_roles r JOIN pg_authid a USING (oid) WHERE r.rolname !~ '^pg_' ORDER BY 1""",
    "reachable": """
        WITH RECURSIVE reach (login, role) AS (
            SELECT oid, oid FROM pg_roles WHERE rolcanlogin AND NOT rolsuper
            UNION SELECT reach.login, m.roleid FROM reach JOIN pg_auth_members m ON m.member = reach.role)
        SELECT login::regrole::text AS login, role::regrole::text AS role FROM reach WHERE login <> role
        ORDER BY 1, 2""",
    "tables": """
        SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
            pg_get_userbyid(c.relowner) AS owner,
            (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies,
            EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive
                AND p.polcmd = '*' AND to_regrole('app_api') = ANY (p.polroles)) AS floor,
            has_any_column_privilege('app_api', c.oid, 'SELECT, INSERT, UPDATE') AS used_by_api
        FROM pg_class c WHERE c.relnamespace = 'chat'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1""",
    "policies_for_public": """
        SELECT polrelid::regclass::text AS relation, polname AS name FROM pg_policy WHERE 0 = ANY (polroles)""",
    "views": """
        SELECT c.oid::regclass::text AS name, c.relkind::text AS kind, o.rolname AS owner,
            o.rolsuper OR o.rolbypassrls AS owner_bypasses,
            coalesce('security_invoker=true' = ANY (c.reloptions), false) AS invoker,
            has_schema_privilege('app_api', c.relnamespace, 'USAGE')
                AND has_any_column_privilege('app_api', c.oid, 'SELECT') AS for_api,
            has_schema_privilege('app_auth', c.relnamespace, 'USAGE')
                AND has_any_column_privilege('app_auth', c.oid, 'SELECT') AS for_auth
        FROM pg_class c JOIN pg_authid o ON o.oid = c.relowner
        WHERE c.relkind IN ('v', 'm', 'f') AND c.relnamespace NOT IN
            ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1""",
    "public_on_databases": """
        SELECT d.datname AS name, a.privilege_type AS privilege FROM pg_database d,
            aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        WHERE a.grantee = 0 AND d.datallowconn ORDER BY 1, 2""",
    "public_on_schemas": """
        SELECT n.nspname AS name, a.privilege_type AS privilege FROM pg_namespace n,
            aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
        WHERE a.grantee = 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2""",
    "public_on_relations": """
        SELECT c.oid::regclass::text AS name, a.privilege_type AS privilege FROM pg_class c,
            aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
        WHERE a.grantee = 0 AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('chat', 'report'))
        ORDER BY 1, 2""",
    "functions": """
        SELECT p.oid::regprocedure::text AS name, p.prosecdef AS definer, o.rolname AS owner, o.rolsuper AS owner_super,
            o.rolcanlogin AS owner_login, coalesce(p.proconfig, '{}') AS config, p.proleakproof AS leakproof,
            EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
                AS for_public
        FROM pg_proc p JOIN pg_authid o ON o.oid = p.proowner
        WHERE p.pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('chat', 'report')) ORDER BY 1""",
    "row_blind_privileges": """
        SELECT c.oid::regclass::text AS name, a.grantee::regrole::text AS role, a.privilege_type AS privilege
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'chat'::regnamespace AND c.relkind IN ('r', 'p')
            AND a.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN') AND a.grantee <> c.relowner""",
    "remote_plaintext": """
        SELECT a.pid, a.usename AS role, a.client_addr::text AS address FROM pg_stat_activity a
        JOIN pg_stat_ssl s USING (pid) WHERE a.client_addr IS NOT NULL AND NOT s.ssl""",
    "checksum_failures": """
        SELECT datname AS name, checksum_failures AS failures FROM pg_stat_database WHERE checksum_failures > 0""",
    "archiver": """
        SELECT archived_count, failed_count, last_archived_time::text, last_failed_time::text,
            coalesce(last_failed_time > last_archived_time, failed_count > 0) AS failing,
            (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') AS waiting,
            (SELECT coalesce(extract(epoch FROM now() - min(modification)), 0)::int
             FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') AS waiting_seconds
        FROM pg_stat_archiver""",
    "socket_users": "SELECT map_name, sys_name, pg_username AS role, error FROM pg_ident_file_mappings",
    "slots": "SELECT slot_name AS name, active, wal_status FROM pg_replication_slots ORDER BY 1",
    "parameter_grants": """
        SELECT parname AS name, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END AS role,
            privilege_type AS privilege
        FROM pg_parameter_acl, aclexplode(paracl) WHERE grantee <> 10 ORDER BY 1, 2""",
    "extensions": "SELECT extname AS name, extversion AS version FROM pg_extension ORDER BY 1",
}


def gather(request: dict[str, Any]) -> dict[str, Any]:
    """The request may ask for `people`: whose rows the probes of isolation look for."""
    settings = required_settings("postgresql")
    assert isinstance(settings, PostgreSQLSettings)  # noqa: S101 - the name decides the type
    with connect(settings) as connection:
        facts = describe(connection)
        if request.get("people"):
            facts["people"] = find_people(connection)
    places = facts["settings"]
    facts["files"] = describe_files(
        [places["data_directory"], places["config_file"], places["hba_file"], places["ident_file"]]
    )
    facts["sockets"] = describe_files([f"{settings.socket_directory}/.s.PGSQL.{settings.port}"])
    facts["logs"], facts["log_rotation"] = describe_files([LOGS]), describe_files(ROTATION)
    facts["data_on"] = str(Path(places["data_directory"]).parent)
    return facts


def describe(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return what the catalogs of a server with the chat schema say."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SETTINGS)
        facts: dict[str, Any] = {"settings": {row["name"]: row["setting"] for row in cursor}}
        for name, query in QUERIES.items():
            facts[name] = cursor.execute(query).fetchall()
    return {"versions": {"postgresql": connection.info.parameter_status("server_version") or ""}, **facts}


def find_people(connection: psycopg.Connection[Any]) -> dict[str, Any] | None:
    """Return two active users, and how many rows of others the first must not see (counted up to 1000).

    They come from the newest 100 users, those with most settings first. None when there are not two active users.
    """
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute("""
        WITH newest AS (SELECT id FROM chat.users WHERE is_active ORDER BY created_at DESC LIMIT 100),
        ranked AS (SELECT id, row_number() OVER (ORDER BY
            (SELECT count(*) FROM chat.settings WHERE user_id = newest.id) DESC, id) AS place FROM newest)
        SELECT u.id::text AS id, o.id::text AS other_id,
            (SELECT count(*) FROM (SELECT FROM chat.users WHERE id <> u.id LIMIT 1000) r) AS other_users,
            (SELECT count(*) FROM (SELECT FROM chat.settings WHERE user_id <> u.id LIMIT 1000) r) AS other_settings,
            (SELECT count(*) FROM (SELECT FROM chat.relationships
                WHERE u.id NOT IN (user_id, related_user_id) LIMIT 1000) r) AS other_relationships
        FROM ranked u, ranked o WHERE u.place = 1 AND o.place = 2""").fetchone()
