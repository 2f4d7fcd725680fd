"""A mutant: one way to break a database that is as declared, and the converged database it is derived from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.inspect import Live, inspect
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.statements import Statement

COLUMNS = """
SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY 1
"""
TRIGGERS = """
SELECT n.nspname || '.' || c.relname, t.tgname::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND NOT t.tgisinternal ORDER BY 1, 2
"""
FUNCTIONS = """
SELECT n.nspname || '.' || p.proname, oidvectortypes(p.proargtypes), pg_get_function_identity_arguments(p.oid),
       n.nspname = ANY(%(schemas)s),
       p.prosecdef, p.provolatile::text, p.prorettype = 'boolean'::regtype,
       EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'search_path='))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY(%(schemas)s) OR n.nspname || '.' || p.proname LIKE ANY(%(closed_functions)s)
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`statements` break the copy; `undo` mends what they changed outside it, in the whole cluster.

    `about` are the roles and objects that it is about: what an attack on it would try first.
    """

    name: str
    kind: str
    statements: tuple[Statement, ...]
    undo: tuple[Statement, ...] = ()
    about: frozenset[str] = frozenset()

    @property
    def shown(self) -> list[str]:
        return [statement.as_string(None) for statement in self.statements]

    @property
    def cluster_wide(self) -> bool:
        return bool(self.undo)


@dataclass(frozen=True, slots=True)
class Function:
    """`arguments` are types, `parameters` have names too.

    `managed` is false for a function outside the managed schemas that is declared as closed to PUBLIC.
    """

    name: str
    arguments: str
    parameters: str
    managed: bool
    definer: bool
    volatility: str
    boolean: bool
    pinned: bool

    @property
    def signature(self) -> sql.SQL:
        return sql.SQL(f"{self.name}({self.arguments})")


@dataclass(frozen=True, slots=True)
class Ground:
    """The declared state, and what a server made of it."""

    declared: Declared
    live: Live
    columns: Mapping[str, tuple[str, ...]]
    triggers: tuple[tuple[str, str], ...]
    functions: tuple[Function, ...]
    server_defaults: Mapping[str, str]

    @property
    def tables(self) -> tuple[str, ...]:
        return self.declared.tables

    def logins(self) -> Iterator[str]:
        """Yield the roles that log on."""
        for name, role in self.declared.roles.items():
            if role.login:
                yield name

    def uses(self, role: str, schema: str) -> bool:
        """Return whether `role` can reach objects of `schema` at all."""
        declared = self.declared.roles[role]
        # It carries USAGE on every schema (manual, 22.5 "Predefined Roles").
        return "USAGE" in declared.grants.schemas.get(schema, ()) or "pg_read_all_data" in declared.member_of

    def granted(self, role: str, relation: str, command: str) -> tuple[str, ...]:
        """Return the columns of `relation` on which `role` is declared to have `command`."""
        for privilege, columns in self.declared.roles[role].grants.relations.get(relation, {}).items():
            if privilege == command:
                return self.columns.get(relation, ()) if columns == "all" else columns
        return ()


def survey(connection: Connection, declared: Declared) -> Ground:
    """Return the ground to derive mutants from; the database of `connection` must be as `declared`."""
    schemas = list(declared.scope.schemas)
    closed = [name.replace("_", r"\_").replace("*", "%") for name in declared.scope.closed_to_public.functions]
    return Ground(
        declared=declared,
        live=inspect(connection, declared),
        columns={name: tuple(columns) for name, columns in connection.execute(COLUMNS, [schemas])},
        triggers=tuple(connection.execute(TRIGGERS, [schemas]).fetchall()),
        functions=tuple(
            Function(*row) for row in connection.execute(FUNCTIONS, {"schemas": schemas, "closed_functions": closed})
        ),
        server_defaults=dict(connection.execute("SELECT name, boot_val FROM pg_settings").fetchall()),
    )
