"""What PostgreSQL is: reads the catalogs into plain values, in a fixed number of queries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql

from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.inspect import catalog, catalog_grants
from dbkeep.postgresql.inspect import others as inspect_others
from dbkeep.postgresql.inspect.others import Others
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.shape import tables
from dbkeep.postgresql.shape.tables import Tables


@dataclass(frozen=True, slots=True)
class LiveRole:
    login: bool = False
    inherit: bool = True
    bypass_row_security: bool = False
    superuser: bool = False
    create_role: bool = False
    create_database: bool = False
    replication: bool = False
    connection_limit: int = -1
    expires: bool = False
    verifier: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, order=True)
class Membership:
    """`grantor` is '' for the bootstrap superuser, who grants what is declared."""

    group: str
    member: str
    admin: bool = False
    inherit: bool = True
    set: bool = True
    grantor: str = ""


@dataclass(frozen=True, slots=True)
class LiveRelation:
    """`kind` is pg_class.relkind; `definition` and `options` are those of a view.

    `number` grows with time: what uses a relation has a higher one.
    """

    kind: str
    owner: str
    row_security: bool = False
    forced: bool = False
    definition: str | None = None
    options: tuple[str, ...] = ()
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """A policy as the server prints it."""

    permissive: bool
    command: str
    roles: tuple[str, ...]
    using: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class LiveFunction:
    """`arguments` are the types of its signature; `definition` is None outside the managed schemas.

    `number` grows with time: what uses a function has a higher one.
    """

    name: str
    arguments: str
    owner: str
    managed: bool = True
    kind: str = "f"
    definition: str | None = None
    number: int = field(default=0, compare=False)

    @property
    def signature(self) -> str:
        return f"{self.name}({self.arguments})"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One privilege on one object. `part` is a column, or a function's argument types."""

    kind: str
    schema: str
    name: str
    part: str
    privilege: str
    grantee: str
    grantable: bool = False


@dataclass(frozen=True, slots=True, order=True)
class DefaultPrivilege:
    """What `creator` grants by itself on objects it makes. `kind` is pg_default_acl.defaclobjtype."""

    creator: str
    schema: str
    kind: str
    privilege: str
    grantee: str


@dataclass(frozen=True, slots=True)
class Live:
    """`database_owner` is None when the database does not exist: the rest then is what a new one starts with.

    `superuser` is the bootstrap superuser. `settings` are by role, database and name; '' is every role, or every
    database. Of `grants`, those in `indirect` were made by somebody with a grant option and go with it. `lacking` are
    an owner's privileges that it took from itself. `columns` are those of relations in managed schemas and of those
    that grants are declared on.
    """

    version: int
    database_owner: str | None
    roles: dict[str, LiveRole] = field(default_factory=dict)
    predefined_roles: frozenset[str] = frozenset()
    memberships: frozenset[Membership] = frozenset()
    settings: dict[tuple[str, str, str], str] = field(default_factory=dict)
    schemas: dict[str, str] = field(default_factory=dict)
    relations: dict[str, LiveRelation] = field(default_factory=dict)
    policies: dict[tuple[str, str], LivePolicy] = field(default_factory=dict)
    functions: tuple[LiveFunction, ...] = ()
    grants: frozenset[Grant] = frozenset()
    indirect: frozenset[Grant] = frozenset()
    lacking: frozenset[Grant] = frozenset()
    columns: dict[str, frozenset[str]] = field(default_factory=dict)
    default_privileges: frozenset[DefaultPrivilege] = frozenset()
    migrations: dict[str, str] = field(default_factory=dict)
    others: Others = field(default_factory=Others)
    superuser: str = "postgres"
    database_attributes: dict[str, Any] = field(default_factory=dict)
    tables: Tables = field(default_factory=Tables)


def inspect(connection: Connection, declared: Declared) -> Live:
    """Return what is live in the scope of `declared`, read in one snapshot."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return _read(connection, parameters(declared))


def parameters(declared: Declared) -> dict[str, Any]:
    """Return the parameters of the catalog queries."""
    scope = declared.scope
    granted = [role.grants for role in declared.roles.values()]
    return {
        "database": scope.database,
        "managed_roles": scope.managed_roles,
        "roles": list(declared.roles),
        "owners": [scope.owner, scope.definer],
        "schemas": list(scope.managed_schemas),
        "policy_schemas": list(scope.managed_schemas),
        "protected_schemas": list(scope.protected_schemas),
        "granted_relations": sorted({name for grants in granted for name in grants.relations}),
        "granted_functions": sorted({name for grants in granted for name in grants.functions}),
        "extensions": list(scope.extensions),
        "closed_languages": list(scope.closed_to_public.languages),
        "closed_databases": list(scope.closed_to_public.databases),
        "closed_schemas": list(scope.closed_to_public.schemas),
        "closed_functions": [_like(name) for name in scope.closed_to_public.functions],
    }


def policies(connection: Connection, **which: Any) -> dict[tuple[str, str], LivePolicy]:
    """Return the policies that catalog.POLICIES finds with the parameters `which`."""
    return {
        (table, name): LivePolicy(permissive, command, tuple(roles), using, check)
        for table, name, permissive, command, roles, using, check in connection.execute(catalog.POLICIES, which)
    }


def _read(connection: Connection, which: dict[str, Any]) -> Live:
    version = connection.info.server_version
    superuser, owner, attributes = connection.execute(catalog.DATABASE, which).fetchall()[0]
    roles = {name: LiveRole(*rest) for name, *rest in connection.execute(catalog.ROLES, which)}
    which = {**which, "held": list(roles)}
    grants = [(Grant(*row), direct) for *row, direct in connection.execute(catalog_grants.GRANTS, which)]
    membership_query = catalog.MEMBERSHIPS if version >= 160000 else catalog.MEMBERSHIPS_15
    return Live(
        version=version,
        superuser=superuser,
        database_owner=owner,
        database_attributes=attributes if owner else {},
        roles=roles,
        predefined_roles=frozenset(name for (name,) in connection.execute(catalog.PREDEFINED_ROLES)),
        memberships=frozenset(Membership(*row) for row in connection.execute(membership_query, which)),
        settings={(role, db, key): value for role, db, key, value in connection.execute(catalog.SETTINGS, which)},
        schemas=dict(connection.execute(catalog.SCHEMAS, which).fetchall()),
        relations={
            name: LiveRelation(kind, owner, enabled, forced, definition, tuple(options or ()), number)
            for name, kind, owner, enabled, forced, definition, options, number in connection.execute(
                catalog.RELATIONS, which
            )
        },
        policies=policies(connection, **which),
        functions=tuple(LiveFunction(*row) for row in connection.execute(catalog.FUNCTIONS, which)),
        grants=frozenset(_grants(grant for grant, _ in grants)),
        indirect=frozenset(_grants(grant for grant, direct in grants if not direct))
        - frozenset(_grants(grant for grant, direct in grants if direct)),
        lacking=frozenset(Grant(*row) for row in connection.execute(catalog_grants.LACKING, which)),
        columns={name: frozenset(columns) for name, columns in connection.execute(catalog.COLUMNS, which)},
        default_privileges=frozenset(
            DefaultPrivilege(*row) for row in connection.execute(catalog_grants.DEFAULT_PRIVILEGES, which)
        ),
        migrations=_migrations(connection),
        others=inspect_others.read(connection, which),
        tables=tables.read(connection, which["protected_schemas"]),
    )


def _grants(found: Iterable[Grant]) -> Iterator[Grant]:
    """A privilege with grant option is two: the privilege, and the option."""
    for grant in found:
        yield replace(grant, grantable=False)
        if grant.grantable:
            yield grant


def _migrations(connection: Connection) -> dict[str, str]:
    if connection.execute(catalog.MIGRATIONS_EXIST).fetchone() != (True,):
        return {}
    return dict(connection.execute(catalog.MIGRATIONS).fetchall())


def counts(connection: Connection, declared_schema: str) -> dict[str, int]:
    """Return the number of rows of every table in a schema, by qualified name, read in one query.

    The connection must be one that row security does not bind.
    """
    names = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p') ORDER BY 1",
        [declared_schema],
    ).fetchall()
    if not names:
        return {}
    each = [
        sql.SQL("SELECT {}, count(*) FROM {}").format(
            sql.Literal(f"{declared_schema}.{name}"), sql.Identifier(declared_schema, name)
        )
        for (name,) in names
    ]
    return dict(connection.execute(sql.SQL(" UNION ALL ").join(each)).fetchall())


def _like(pattern: str) -> str:
    return re.sub(r"([_%\\])", r"\\\1", pattern).replace("*", "%")
