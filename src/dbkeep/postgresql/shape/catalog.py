"""The catalog query of shape.py: one row for each part of each table in the schemas of the parameter.

NOT NULL is told of the column, so that 18, where it is a constraint too, reads like its elders. The index of a key is
told of the constraint. A foreign key whose triggers are switched off is not enforced.
"""

SHAPE = """
WITH tables AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relkind, c.relpersistence, c.reloptions
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY(%(schemas)s) AND c.relkind IN ('r', 'p')
), relatives AS (
    SELECT inhrelid, inhparent, inhparent::regclass::text AS relation, inhrelid::regclass::text AS child
    FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE NOT c.relispartition
)
SELECT name, 'table', '',
       jsonb_build_object(
           'kind', relkind, 'persistence', relpersistence,
           'options', ARRAY(SELECT unnest(reloptions) ORDER BY 1),
           'parents', ARRAY(SELECT relation FROM relatives WHERE inhrelid = tables.oid ORDER BY 1),
           'children', ARRAY(SELECT child FROM relatives WHERE inhparent = tables.oid ORDER BY 1)),
       '{}'::jsonb
FROM tables
UNION ALL
SELECT t.name, 'column', a.attname,
       jsonb_build_object(
           'type', format_type(a.atttypid, a.atttypmod), 'has_default', d.oid IS NOT NULL,
           'not_null', a.attnotnull AND NOT EXISTS (
               SELECT FROM pg_constraint n WHERE n.conrelid = t.oid AND n.contype = 'n' AND n.conkey[1] = a.attnum
                   AND NOT n.convalidated),
           'generated', a.attgenerated, 'identity', a.attidentity,
           'collation', CASE WHEN a.attcollation <> y.typcollation THEN a.attcollation::regcollation::text END),
       jsonb_build_object('default', pg_get_expr(d.adbin, d.adrelid))
FROM tables t
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type y ON y.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT t.name, 'constraint', o.conname,
       jsonb_build_object(
           'type', o.contype, 'validated', o.convalidated,
           'columns', ARRAY(SELECT attname FROM unnest(o.conkey) WITH ORDINALITY k (number, place)
                            JOIN pg_attribute ON attrelid = o.conrelid AND attnum = number ORDER BY place),
           'references', (SELECT n.nspname || '.' || f.relname
                          FROM pg_class f JOIN pg_namespace n ON n.oid = f.relnamespace WHERE f.oid = o.confrelid),
           'referenced', ARRAY(SELECT attname FROM unnest(o.confkey) WITH ORDINALITY k (number, place)
                               JOIN pg_attribute ON attrelid = o.confrelid AND attnum = number ORDER BY place),
           'actions', concat(o.confupdtype, o.confdeltype, o.confmatchtype),
           'deferrable', o.condeferrable, 'deferred', o.condeferred,
           'enforced', coalesce((to_jsonb(o) ->> 'conenforced')::boolean, true)
               AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgconstraint = o.oid AND tgenabled <> 'O')),
       jsonb_build_object(
           'definition', pg_get_constraintdef(o.oid), 'expression', pg_get_expr(o.conbin, o.conrelid),
           'index', CASE WHEN o.contype IN ('p', 'u') THEN pg_get_indexdef(o.conindid) END)
FROM tables t JOIN pg_constraint o ON o.conrelid = t.oid AND o.contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT t.name, 'index', c.relname,
       jsonb_build_object(
           'method', m.amname, 'unique', i.indisunique, 'valid', i.indisvalid AND i.indisready,
           'nulls_distinct', NOT i.indnullsnotdistinct, 'partial', i.indpred IS NOT NULL,
           'columns', ARRAY(SELECT coalesce(attname, '(expression)')
                            FROM unnest(i.indkey) WITH ORDINALITY k (number, place)
                            LEFT JOIN pg_attribute ON attrelid = i.indrelid AND attnum = number ORDER BY place),
           'keys', i.indnkeyatts, 'directions', i.indoption::text,
           'classes', ARRAY(SELECT opcname FROM unnest(i.indclass) WITH ORDINALITY k (class, place)
                            JOIN pg_opclass p ON p.oid = class ORDER BY place),
           'options', ARRAY(SELECT unnest(c.reloptions) ORDER BY 1)),
       jsonb_build_object(
           'definition', pg_get_indexdef(i.indexrelid), 'predicate', pg_get_expr(i.indpred, i.indrelid),
           'keys', ARRAY(SELECT pg_get_indexdef(i.indexrelid, place, false)
                         FROM generate_series(1, i.indnkeyatts) place))
FROM tables t
JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u', 'x'))
UNION ALL
SELECT t.name, 'trigger', g.tgname,
       jsonb_build_object(
           'function', n.nspname || '.' || p.proname, 'type', g.tgtype, 'enabled', g.tgenabled,
           'conditional', g.tgqual IS NOT NULL, 'deferrable', g.tgdeferrable, 'deferred', g.tginitdeferred,
           'columns', ARRAY(SELECT attname FROM unnest(g.tgattr) WITH ORDINALITY k (number, place)
                            JOIN pg_attribute ON attrelid = g.tgrelid AND attnum = number ORDER BY place)),
       jsonb_build_object('definition', pg_get_triggerdef(g.oid))
FROM tables t
JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal
JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
UNION ALL
SELECT t.name, 'rule', r.rulename,
       jsonb_build_object('event', r.ev_type, 'instead', r.is_instead, 'enabled', r.ev_enabled),
       jsonb_build_object('definition', pg_get_ruledef(r.oid))
FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid
"""
