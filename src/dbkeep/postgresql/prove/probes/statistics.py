"""P37, P38 and P39: what do the server's own numbers about tables tell of rows that are hidden?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.reach import Reach
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

SOURCES = ("PostgreSQL manual 54 System Views: pg_stats", "PostgreSQL manual 53 System Catalogs: pg_class")
VIEWS = {
    "pg_stats": "SELECT schemaname || '.' || tablename FROM pg_stats WHERE schemaname = ANY(%s)",
    "pg_stats_ext": "SELECT schemaname || '.' || tablename FROM pg_stats_ext WHERE schemaname = ANY(%s)",
    "pg_stats_ext_exprs": "SELECT schemaname || '.' || tablename FROM pg_stats_ext_exprs WHERE schemaname = ANY(%s)",
}
CATALOGS = ("pg_statistic", "pg_statistic_ext_data")
SIZES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND (c.reltuples > 0 OR pg_relation_size(c.oid) > 0)
"""
SEQUENCES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_'
"""
NUMBERED = """
SELECT n.nspname || '.' || c.relname || '.' || a.attname
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE n.nspname = ANY(%s) AND a.attnum > 0
    AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE '%%nextval(%%')
"""


@probe("P37", "No statistics show sampled values of hidden rows", area="leak", sources=SOURCES, live=False)
def statistics(world: World) -> Iterator[Finding]:
    schemas = list(world.declared.scope.protected_schemas)
    with _extended(world):
        for view, query in VIEWS.items():
            kept = world.superuser().execute(query.encode(), [schemas]).fetchall()
            require(kept or view == "pg_stats_ext_exprs", f"{view} has nothing about {schemas}")
        for role in world.login_roles:
            for view, query in VIEWS.items():
                shown = world.attempt(role, query.encode(), [schemas])
                for (table,) in set(shown.values):
                    if reach.of(world.declared, role, table) is not Reach.ALL:
                        yield Finding(role, view, f"shows values of {table}")
            for catalog in CATALOGS:
                read = world.attempt(role, sql.SQL("SELECT FROM pg_catalog.{} LIMIT 1").format(sql.Identifier(catalog)))
                if not read.is_harmless and reach.READS_ALL not in world.declared.roles[role].member_of:
                    yield Finding(role, catalog, f"can be read: {read}")


@contextmanager
def _extended(world: World) -> Iterator[None]:
    """Extended statistics on a table with hidden rows, as a later migration may add them."""
    connection = world.superuser()
    connection.execute("CREATE STATISTICS chat.probe (mcv) ON user_id, key FROM chat.settings")
    connection.execute("ANALYZE chat.settings")
    try:
        yield
    finally:
        connection.execute("DROP STATISTICS chat.probe")


@probe("P38", "Nothing tells how many rows a table has", area="leak", sources=SOURCES)
def sizes(world: World) -> Iterator[Finding]:
    """The catalogs that hold sizes are open to everybody, and pg_relation_size asks for no right."""
    schemas = list(world.declared.scope.protected_schemas)
    for role in world.login_roles:
        shown = [table for (table,) in world.attempt(role, SIZES, [schemas]).values]
        for table in sorted(shown):
            if reach.of(world.declared, role, table) is not Reach.ALL:
                yield Finding(role, table, "its size is readable", leak="table_sizes")


@probe("P39", "No sequence counts rows", area="leak", sources=SOURCES)
def sequences(world: World) -> Iterator[Finding]:
    schemas = list(world.declared.scope.protected_schemas)
    first = world.login_roles[0]
    for (column,) in world.attempt(first, NUMBERED, [schemas]).values:
        yield Finding("everyone", column, "is numbered: its values count the rows of all users")
    names = [name for (name,) in world.attempt(first, SEQUENCES).values]
    for role in world.login_roles:
        if reach.READS_ALL in world.declared.roles[role].member_of:
            continue
        for name in names:
            for text in ("SELECT last_value FROM {}", "SELECT FROM {} WHERE is_called"):
                read = world.attempt(role, sql.SQL(text).format(sql.Identifier(*name.split("."))))
                if not read.is_harmless:
                    yield Finding(role, name, f"the sequence can be read: {read}")
