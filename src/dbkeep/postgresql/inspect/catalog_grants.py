"""The catalog queries about privileges. Parameters are those of `inspect.parameters`."""

# Everything that can carry a privilege. A NULL acl stands for acldefault(). `closed` is where PUBLIC must hold nothing.
# The row type of a table and the constructors of a range have an acl of their own only where somebody gave them one.
_OBJECTS = """
WITH objects (kind, schema, name, signature, owner, default_acl, acl, closed) AS (
    SELECT 'DATABASE', '', datname::text, '', datdba, acldefault('d', datdba), datacl,
           datname = ANY(%(closed_databases)s)
    FROM pg_database
  UNION ALL
    SELECT 'SCHEMA', '', nspname::text, '', nspowner, acldefault('n', nspowner), nspacl,
           nspname = ANY(%(schemas)s) OR nspname = ANY(%(closed_schemas)s)
    FROM pg_namespace
  UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, nspname::text, relname::text, '', relowner,
           acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner), relacl, false
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL
    SELECT 'COLUMN', nspname::text, relname::text, attname::text, relowner, acldefault('c', relowner), attacl, false
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE attacl IS NOT NULL AND NOT attisdropped
  UNION ALL
    SELECT CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, nspname::text, proname::text,
           oidvectortypes(proargtypes), proowner, acldefault('f', proowner), proacl,
           nspname || '.' || proname LIKE ANY(%(closed_functions)s)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
    WHERE proacl IS NOT NULL OR p.oid NOT IN (
        SELECT objid FROM pg_depend WHERE classid = 'pg_proc'::regclass AND deptype = 'i'
    )
  UNION ALL
    SELECT 'TYPE', nspname::text, typname::text, '', typowner, acldefault('T', typowner), typacl, false
    FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace LEFT JOIN pg_class c ON c.oid = typrelid
    WHERE typtype <> 'm' AND typsubscript <> 'array_subscript_handler'::regproc
        AND (coalesce(relkind, 'c') = 'c' OR typacl IS NOT NULL)
  UNION ALL
    SELECT 'LANGUAGE', '', lanname::text, '', lanowner, acldefault('l', lanowner), lanacl,
           lanname = ANY(%(closed_languages)s)
    FROM pg_language WHERE lanpltrusted OR lanacl IS NOT NULL
  UNION ALL
    SELECT 'LARGE OBJECT', '', oid::text, '', lomowner, acldefault('L', lomowner), lomacl, true
    FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL
  UNION ALL
    SELECT 'FOREIGN DATA WRAPPER', '', fdwname::text, '', fdwowner, acldefault('F', fdwowner), fdwacl, true
    FROM pg_foreign_data_wrapper
  UNION ALL
    SELECT 'FOREIGN SERVER', '', srvname::text, '', srvowner, acldefault('S', srvowner), srvacl, true
    FROM pg_foreign_server
  UNION ALL
    SELECT 'TABLESPACE', '', spcname::text, '', spcowner, acldefault('t', spcowner), spcacl, false
    FROM pg_tablespace
  UNION ALL
    SELECT 'PARAMETER', '', parname, '', 10, acldefault('p', 10), paracl, true FROM pg_parameter_acl
)
"""

# Every privilege that the managed scope is about: on anything in a managed schema, held by a managed role anywhere, or
# held by PUBLIC on what is closed to it. An owner's own are no grants; a default acl names only owner and PUBLIC.
GRANTS = f"""{_OBJECTS}
SELECT kind, schema, name, signature, privilege_type,
       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END, is_grantable, grantor = owner
FROM objects, LATERAL aclexplode(coalesce(acl, default_acl))
WHERE (acl IS NOT NULL OR closed OR schema = ANY(%(schemas)s) OR kind = 'DATABASE') AND grantee <> owner AND (
    schema = ANY(%(schemas)s)
    OR (kind = 'SCHEMA' AND name = ANY(%(schemas)s))
    OR (kind = 'DATABASE' AND name = %(database)s)
    OR (grantee = 0 AND closed)
    OR (grantee <> 0 AND pg_get_userbyid(grantee) = ANY(%(held)s))
)
"""  # noqa: S608

# What an owner took from itself, such as the SELECT on a table that its foreign keys are checked with.
LACKING = f"""{_OBJECTS}
SELECT kind, schema, name, signature, should.privilege_type, pg_get_userbyid(owner)
FROM objects, LATERAL aclexplode(default_acl) should
WHERE acl IS NOT NULL AND kind <> 'COLUMN' AND should.grantee = owner AND pg_get_userbyid(owner) = ANY(%(owners)s)
    AND (
        schema = ANY(%(schemas)s)
        OR (kind = 'SCHEMA' AND name = ANY(%(schemas)s))
        OR (kind = 'DATABASE' AND name = %(database)s)
    )
    AND NOT EXISTS (
        SELECT FROM aclexplode(acl) has WHERE has.grantee = owner AND has.privilege_type = should.privilege_type
    )
"""  # noqa: S608

# Functions and types are open to PUBLIC unless a global entry of their creator says otherwise.
DEFAULT_PRIVILEGES = """
SELECT r.rolname, coalesce(n.nspname, ''), d.defaclobjtype::text, a.privilege_type,
       CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END
FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace,
LATERAL aclexplode(d.defaclacl) a
WHERE a.grantee <> d.defaclrole
    AND (r.rolname = ANY(%(held)s) OR n.nspname = ANY(%(schemas)s) OR pg_get_userbyid(a.grantee) = ANY(%(held)s))
UNION ALL
SELECT r.rolname, '', kind, privilege, 'PUBLIC'
FROM pg_roles r, (VALUES ('f', 'EXECUTE'), ('T', 'USAGE')) open (kind, privilege)
WHERE r.rolname = ANY(%(owners)s) AND NOT EXISTS (
    SELECT FROM pg_default_acl d WHERE d.defaclrole = r.oid AND d.defaclnamespace = 0 AND d.defaclobjtype::text = kind
)
"""
