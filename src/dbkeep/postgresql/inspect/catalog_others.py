"""The catalog queries about objects of all other kinds. Parameters are those of `inspect.parameters`."""

# Extensions in the database, and those that are declared and could be.
EXTENSIONS = """
SELECT coalesce(e.extname, a.name), e.extversion, n.nspname, a.default_version
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
FULL JOIN pg_available_extensions a ON a.name = e.extname
WHERE e.extname IS NOT NULL OR a.name = ANY(%(extensions)s)
"""

# What is in a managed schema besides tables, views and functions, what rewrites or triggers on relations there, and
# what in the database belongs to no schema; each made by somebody (16384 is the first number that is not the server's
# own), and no part of an extension or of another object. Rules and triggers of protected tables come with the tables.
OTHERS = """
WITH found (class, object) AS (
    SELECT classid::regclass, objid FROM pg_depend
    WHERE refclassid = 'pg_namespace'::regclass AND deptype = 'n' AND objsubid = 0
        AND refobjid IN (SELECT oid FROM pg_namespace WHERE nspname = ANY(%(schemas)s))
        AND classid NOT IN ('pg_proc'::regclass, 'pg_extension'::regclass)
        AND NOT (classid = 'pg_class'::regclass AND objid IN (SELECT oid FROM pg_class WHERE relkind <> 'S'))
  UNION ALL
    SELECT 'pg_rewrite'::regclass, r.oid
    FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = ANY(%(schemas)s) AND rulename <> '_RETURN'
        AND NOT (relkind IN ('r', 'p') AND nspname = ANY(%(protected_schemas)s))
  UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = ANY(%(schemas)s) AND relkind = 'v' AND NOT tgisinternal
  UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
  UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication
  UNION ALL SELECT 'pg_subscription'::regclass, oid FROM pg_subscription
            WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
  UNION ALL SELECT 'pg_user_mapping'::regclass, oid FROM pg_user_mapping
  UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language
  UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast
  UNION ALL SELECT 'pg_transform'::regclass, oid FROM pg_transform
  UNION ALL SELECT 'pg_am'::regclass, oid FROM pg_am
)
SELECT named.type, named.identity, pg_get_userbyid(coalesce(owner.refobjid, 10)), named.schema IS NOT NULL,
       object::bigint
FROM found
JOIN LATERAL pg_identify_object(class, object, 0) named ON true
LEFT JOIN pg_shdepend owner ON owner.classid = class AND owner.objid = object AND owner.deptype = 'o'
    AND owner.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
WHERE object >= 16384 AND NOT EXISTS (
    SELECT FROM pg_depend part
    WHERE part.classid = class AND part.objid = object
        AND (part.deptype IN ('e', 'i') OR part.deptype = 'a' AND part.refclassid = class AND named.type = 'sequence')
)
"""

# What managed roles own outside the managed schemas: in this database, or shared by all.
OWNED_ELSEWHERE = """
SELECT named.type, named.identity, pg_get_userbyid(d.refobjid)
FROM pg_shdepend d JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) named ON true
WHERE d.deptype = 'o' AND d.refclassid = 'pg_authid'::regclass AND pg_get_userbyid(d.refobjid) = ANY(%(held)s)
    AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND d.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass, 'pg_extension'::regclass)
    AND NOT (named.type = 'database' AND named.identity = quote_ident(%(database)s))
    AND coalesce(named.schema, CASE named.type WHEN 'schema' THEN named.identity ELSE '' END)
        NOT IN (SELECT quote_ident(name) FROM unnest(%(schemas)s::text[]) AS name)
    AND coalesce(named.schema, '') NOT LIKE 'pg_temp%%'
"""
