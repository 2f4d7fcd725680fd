"""The catalog queries of inspect.py. Parameters are those of `inspect.parameters`."""

DATABASE = """
SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %(database)s
"""

ROLES = """
SELECT rolname, rolcanlogin, rolinherit, rolbypassrls, rolsuper, rolcreaterole, rolcreatedb, rolreplication,
       rolconnlimit, rolvaliduntil IS NOT NULL AND rolvaliduntil <> 'infinity', rolpassword
FROM pg_authid WHERE rolname ~ %(managed_roles)s OR rolname = ANY(%(roles)s)
"""

# Before 16 a membership is inherited as the member's own INHERIT says, and SET is always possible.
MEMBERSHIPS_15 = """
SELECT g.rolname, m.rolname, a.admin_option, m.rolinherit, true
FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE m.rolname = ANY(%(held)s) OR g.rolname = ANY(%(held)s)
"""
MEMBERSHIPS = MEMBERSHIPS_15.replace("m.rolinherit, true", "a.inherit_option, a.set_option")

SETTINGS = """
SELECT r.rolname, coalesce(d.datname, ''), split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)
FROM pg_db_role_setting s
JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
LATERAL unnest(s.setconfig) AS entry
WHERE r.rolname = ANY(%(held)s)
"""

SCHEMAS = """
SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = ANY(%(schemas)s)
"""

RELATIONS = """
SELECT n.nspname || '.' || c.relname, c.relkind::text, pg_get_userbyid(c.relowner),
       c.relrowsecurity, c.relforcerowsecurity, CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, c.reloptions
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
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

FUNCTIONS = """
SELECT n.nspname || '.' || p.proname, oidvectortypes(p.proargtypes), pg_get_userbyid(p.proowner),
       n.nspname = ANY(%(schemas)s), p.prokind::text,
       CASE WHEN n.nspname = ANY(%(schemas)s) AND p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY(%(schemas)s) OR n.nspname || '.' || p.proname = ANY(%(granted_functions)s)
"""

# Every privilege that the managed scope is about: on anything in a managed schema, held by a managed role anywhere, or
# held by PUBLIC on what is declared as closed to it. A NULL acl stands for acldefault(); an owner's own are no grants.
GRANTS = """
WITH objects (kind, schema, name, signature, owner, acl, closed) AS (
    SELECT 'DATABASE', '', datname::text, '', datdba, coalesce(datacl, acldefault('d', datdba)),
           datname = ANY(%(closed_databases)s)
    FROM pg_database
  UNION ALL
    SELECT 'SCHEMA', '', nspname::text, '', nspowner, coalesce(nspacl, acldefault('n', nspowner)),
           nspname = ANY(%(schemas)s) OR nspname = ANY(%(closed_schemas)s)
    FROM pg_namespace
  UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, nspname::text, relname::text, '', relowner,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)), false
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL
    SELECT 'COLUMN', nspname::text, relname::text, attname::text, relowner, attacl, false
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE attacl IS NOT NULL AND NOT attisdropped
  UNION ALL
    SELECT CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, nspname::text, proname::text,
           oidvectortypes(proargtypes), proowner, coalesce(proacl, acldefault('f', proowner)),
           nspname || '.' || proname LIKE ANY(%(closed_functions)s)
    FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
  UNION ALL
    SELECT 'PARAMETER', '', parname, '', 10, paracl, false FROM pg_parameter_acl
)
SELECT kind, schema, name, signature, privilege_type,
       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END, is_grantable
FROM objects, LATERAL aclexplode(acl)
WHERE grantee <> owner AND (
    schema = ANY(%(schemas)s)
    OR (kind = 'SCHEMA' AND name = ANY(%(schemas)s))
    OR (kind = 'DATABASE' AND name = %(database)s)
    OR (grantee = 0 AND closed)
    OR (grantee <> 0 AND pg_get_userbyid(grantee) = ANY(%(held)s))
)
"""

# Functions are open to PUBLIC unless a global entry of their creator says otherwise.
DEFAULT_PRIVILEGES = """
SELECT r.rolname, coalesce(n.nspname, ''), d.defaclobjtype::text, a.privilege_type,
       CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END
FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace,
LATERAL aclexplode(d.defaclacl) a
WHERE a.grantee <> d.defaclrole AND (r.rolname = ANY(%(held)s) OR n.nspname = ANY(%(schemas)s))
UNION ALL
SELECT r.rolname, '', 'f', 'EXECUTE', 'PUBLIC'
FROM pg_roles r
WHERE r.rolname = ANY(%(owners)s) AND NOT EXISTS (
    SELECT FROM pg_default_acl d WHERE d.defaclrole = r.oid AND d.defaclnamespace = 0 AND d.defaclobjtype = 'f'
)
"""

MIGRATIONS_EXIST = "SELECT to_regclass('migration.digest') IS NOT NULL"

MIGRATIONS = "SELECT migration_id, sha256 FROM migration.digest"
