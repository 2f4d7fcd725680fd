"""The catalog queries of inspect.py. Parameters are those of `inspect.parameters`."""

DATABASE = """
SELECT pg_get_userbyid(10), pg_get_userbyid(datdba), jsonb_build_object(
    'is_template', datistemplate, 'connection_limit', datconnlimit
)
FROM (SELECT) AS server LEFT JOIN pg_database ON datname = %(database)s
"""

ROLES = """
SELECT rolname, rolcanlogin, rolinherit, rolbypassrls, rolsuper, rolcreaterole, rolcreatedb, rolreplication,
       rolconnlimit, rolvaliduntil IS NOT NULL AND rolvaliduntil <> 'infinity', rolpassword
FROM pg_authid WHERE rolname ~ %(managed_roles)s OR rolname = ANY(%(roles)s)
"""

PREDEFINED_ROLES = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pg\\_%'"

# Before 16 a membership is inherited as the member's own INHERIT says, SET is always possible, and several grantors
# make one membership. The grantor of what nobody else granted is the bootstrap superuser, role 10, here ''.
# Predefined roles that a managed one is a member of count as far as they lead, except where initdb made it so.
MEMBERSHIPS_15 = """
WITH RECURSIVE reached (role) AS (
    SELECT oid FROM pg_roles WHERE rolname = ANY(%(held)s)
  UNION
    SELECT roleid FROM pg_auth_members JOIN reached ON member = role JOIN pg_roles r ON r.oid = roleid
    WHERE rolname LIKE 'pg\\_%%'
)
SELECT g.rolname, m.rolname, a.admin_option, m.rolinherit, true, ''
FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE (a.member IN (SELECT role FROM reached) OR g.rolname = ANY(%(held)s)) AND NOT (
    m.rolname = 'pg_monitor' AND g.rolname IN ('pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables')
)
"""
MEMBERSHIPS = MEMBERSHIPS_15.replace(
    "m.rolinherit, true, ''",
    "a.inherit_option, a.set_option, CASE WHEN a.grantor <> 10 THEN pg_get_userbyid(a.grantor) ELSE '' END",
)

# Settings of a managed role; and with '' for the role those of every role, in the database or in all of them.
SETTINGS = """
SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''),
       split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
LATERAL unnest(s.setconfig) AS entry
WHERE r.rolname = ANY(%(held)s) OR (s.setrole = 0 AND (s.setdatabase = 0 OR d.datname = %(database)s))
"""

SCHEMAS = """
SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = ANY(%(schemas)s)
"""

RELATIONS = """
SELECT n.nspname || '.' || c.relname, c.relkind::text, pg_get_userbyid(c.relowner),
       c.relrowsecurity, c.relforcerowsecurity, CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, c.reloptions,
       c.oid::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
)
"""

COLUMNS = """
SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE (n.nspname = ANY(%(schemas)s) OR n.nspname || '.' || c.relname = ANY(%(granted_relations)s))
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY 1
"""

POLICIES = """
SELECT n.nspname || '.' || c.relname, p.polname, p.polpermissive,
       CASE p.polcmd
           WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL'
       END,
       ARRAY(SELECT CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) r ORDER BY 1),
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(policy_schemas)s) OR c.relnamespace = pg_my_temp_schema()
"""

# What belongs to an extension, or to a type as its constructors do, comes and goes with it.
FUNCTIONS = """
SELECT n.nspname || '.' || p.proname, oidvectortypes(p.proargtypes), pg_get_userbyid(p.proowner),
       n.nspname = ANY(%(schemas)s), p.prokind::text,
       CASE WHEN n.nspname = ANY(%(schemas)s) AND p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, p.oid::bigint
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname || '.' || p.proname = ANY(%(granted_functions)s) OR n.nspname = ANY(%(schemas)s) AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i')
)
"""

MIGRATIONS_EXIST = "SELECT to_regclass('migration.digest') IS NOT NULL"

MIGRATIONS = "SELECT migration_id, sha256 FROM migration.digest"
