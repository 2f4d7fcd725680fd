"""P11 to P14, P19 and P22: can a user read, or learn of, a row that is not for it?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from dbkeep.checks.attempts import attempt
from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.reach import Reach, foreign
from dbkeep.postgresql.prove.seed import Person
from dbkeep.postgresql.prove.world import Connection, World
from dbkeep.prove.probe import Finding, require

SOURCES = ("CIS PostgreSQL 17 4.7", "PostgreSQL manual 5.9 Row Security Policies")
BY_KEY = "SELECT id FROM {t} WHERE id = ANY(%(ids)s)"
DIVISION_BY_ZERO, NOT_SUPPORTED = "22012", "0A000"


class Shape(NamedTuple):
    """A query for ids of rows of the table {t}, given some; `complete` when it must show all that its user may see."""

    name: str
    query: str
    ids: list[UUID]
    complete: bool = True


SHAPES: dict[str, str] = {
    "join": "SELECT b.id FROM {t} a JOIN {t} b ON a.id = b.id WHERE a.id = ANY(%(ids)s)",
    "left join": "SELECT b.id FROM unnest(%(ids)s::uuid[]) k(id) LEFT JOIN {t} b ON b.id = k.id WHERE b.id IS NOT NULL",
    "CTE": "WITH c AS MATERIALIZED (SELECT id FROM {t}) SELECT id FROM c WHERE id = ANY(%(ids)s)",
    "inlined CTE": "WITH c AS NOT MATERIALIZED (SELECT id FROM {t}) SELECT id FROM c WHERE id = ANY(%(ids)s)",
    "EXISTS": "SELECT k.id FROM unnest(%(ids)s::uuid[]) k(id) WHERE EXISTS (SELECT FROM {t} r WHERE r.id = k.id)",
    "IN": "SELECT k.id FROM unnest(%(ids)s::uuid[]) k(id) WHERE k.id IN (SELECT id FROM {t})",
    "scalar subquery": "SELECT v FROM (SELECT (SELECT r.id FROM {t} r WHERE r.id = k.id) AS v"
    " FROM unnest(%(ids)s::uuid[]) k(id)) s WHERE v IS NOT NULL",
    "LATERAL": "SELECT l.id FROM unnest(%(ids)s::uuid[]) k(id), LATERAL (SELECT id FROM {t} r WHERE r.id = k.id) l",
    "aggregate": "SELECT unnest(array_agg(id)) FROM {t} WHERE id = ANY(%(ids)s)",
    "GROUPING SETS": "SELECT id FROM {t} WHERE id = ANY(%(ids)s) GROUP BY GROUPING SETS ((id), ())"
    " HAVING id IS NOT NULL",
    "window": "SELECT lag(id, 0) OVER (ORDER BY id) FROM {t} WHERE id = ANY(%(ids)s)",
    "UNION": "SELECT id FROM {t} WHERE id = ANY(%(ids)s) UNION SELECT id FROM {t} WHERE id = ANY(%(ids)s)",
    "EXCEPT": "SELECT id FROM {t} WHERE id = ANY(%(ids)s) EXCEPT SELECT gen_random_uuid()",
    "ONLY": "SELECT id FROM ONLY {t} WHERE id = ANY(%(ids)s)",
    "BERNOULLI": "SELECT id FROM {t} TABLESAMPLE BERNOULLI (100) WHERE id = ANY(%(ids)s)",
    "SYSTEM": "SELECT id FROM {t} TABLESAMPLE SYSTEM (100) WHERE id = ANY(%(ids)s)",
    "ctid": "SELECT id FROM {t} WHERE ctid = ANY((SELECT array_agg(format('(%%s,%%s)', p, l)::tid)"
    " FROM generate_series(0, 9) p, generate_series(1, 99) l)::tid[]) AND id = ANY(%(ids)s)",
    "query_to_xml": "SELECT unnest(xpath('//id/text()', query_to_xml('SELECT id FROM {t}', true, false, '')))"
    "::text::uuid",
    "FOR UPDATE": "SELECT id FROM {t} WHERE id = ANY(%(ids)s) FOR UPDATE",
    "FOR KEY SHARE": "SELECT id FROM {t} WHERE id = ANY(%(ids)s) FOR KEY SHARE SKIP LOCKED",
}
# These read the whole table, which may be large on a live server.
READS_ALL = ("CTE", "BERNOULLI", "SYSTEM", "query_to_xml")
# Locking needs a right to write, a system column one to all columns: not every table gives them.
NEEDS_MORE = ("ctid", "FOR UPDATE", "FOR KEY SHARE")


@probe("P11", "No user sees a row of another, by key or by scan", area="read", sources=SOURCES)
def other_users(world: World) -> Iterator[Finding]:
    for role, table in reach.bound_to_user(world.declared):
        for person in world.people.values():
            hidden = sorted(world.seed.ids(table) - world.seed.visible(table, person))
            require(hidden, f"there is nothing in {table} to hide from {person.name}")
            for shape in (
                Shape("scan", "SELECT id FROM {t}", [])
                if world.is_copy
                else Shape("scan", "SELECT id FROM {t} LIMIT 1000", [], complete=False),
                Shape("keys", BY_KEY, sorted(world.seed.ids(table))),
                Shape("key", BY_KEY, hidden[:1], complete=False),
            ):
                yield from _try_shape(world, role, table, person, shape)
    yield from _unbound(world)


def _unbound(world: World) -> Iterator[Finding]:
    """A context opens nothing to a role that has no declared right to a relation."""
    for role in world.login_roles:
        for relation in reach.relations(world):
            if reach.of(world.declared, role, relation) is Reach.NONE:
                seen = world.attempt(role, reach.any_row(relation), person=world.people["ben"])
                if not seen.is_harmless:
                    yield Finding(role, relation, f"acting for ben: {seen}")


@probe("P12", "No form of query shows a row that a plain one hides", area="read", sources=SOURCES)
def query_shapes(world: World) -> Iterator[Finding]:
    for role, table in reach.bound_to_user(world.declared):
        for name, query in SHAPES.items():
            if name in READS_ALL and not world.is_copy:
                continue
            # A lock is for rows that the policies for writing let through too.
            shape = Shape(name, query, sorted(world.seed.ids(table)), complete="FOR " not in name)
            for person in (world.people["anna"], world.people["dora"]):
                yield from _try_shape(world, role, table, person, shape)


def _try_shape(world: World, role: str, table: str, person: Person, shape: Shape) -> Iterator[Finding]:
    """Run one query; it must show nothing that the person may not see, and all that it may unless not `complete`."""
    with world.acting_as(world.session(role), person) as connection:
        try:
            with connection.transaction():
                cursor = connection.execute(shape.query.format(t=table).encode(), {"ids": shape.ids})
                found = {row for (row,) in cursor.fetchall()}
        except psycopg.errors.InsufficientPrivilege:
            require(shape.name in NEEDS_MORE, f"{role} may not read the ids of {table} ({shape.name})")
            return
    extra = foreign(world, table, person, found)
    if extra:
        yield Finding(role, table, f"{person.name} sees {len(extra)} rows of others ({shape.name})")
    missing = world.seed.visible(table, person) - found
    if shape.complete:
        require(not missing, f"{person.name} does not see {len(missing)} rows of its own in {table} ({shape.name})")


@probe("P13", "COPY TO shows own rows only and COPY FROM is refused", area="read", sources=SOURCES)
def copy(world: World) -> Iterator[Finding]:
    anna = world.people["anna"]
    for role, table in reach.bound_to_user(world.declared):
        name = sql.Identifier(*table.split("."))
        forms = [("COPY query TO", sql.SQL("COPY (SELECT id FROM {} WHERE id = ANY({})) TO STDOUT"))]
        forms += [("COPY table TO", sql.SQL("COPY {} (id) TO STDOUT"))] if world.is_copy else []
        for form, statement in forms:
            found = _copied(world, role, anna, statement.format(name, sql.Literal(sorted(world.seed.ids(table)))))
            if foreign(world, table, anna, found):
                yield Finding(role, table, f"{form} gives anna rows of others")
            require(found, f"{form} gives {role} acting for anna no row of {table}")
    for role in world.login_roles:
        for table in world.declared.tables:
            if (refusal := _copy_in(world, role, table)) not in ("42501", NOT_SUPPORTED):
                yield Finding(role, table, f"COPY FROM was not refused ({refusal})")


def _copied(world: World, role: str, person: Person, statement: sql.Composed) -> set[UUID]:
    with world.acting_as(world.session(role), person) as connection, connection.cursor().copy(statement) as rows:
        return {UUID(value) for row in rows.rows() for value in row if value}


def _copy_in(world: World, role: str, table: str) -> str | None:
    statement = sql.SQL("COPY {} (id) FROM STDIN").format(sql.Identifier(*table.split(".")))
    try:
        with (
            world.acting_as(world.session(role), world.people["anna"]) as connection,
            connection.cursor().copy(statement),
        ):
            pass
    except psycopg.Error as error:
        return error.sqlstate
    return None


VIEWS = f"""
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND {reach.OUR_OWN.format("c")}
ORDER BY 1
"""


@probe(
    "P14",
    "No view, materialised view or foreign table shows more than is declared, and none shows a person",
    area="read",
    sources=("splinter 0010 security_definer_view", "splinter 0016 materialized_view_in_api", *SOURCES),
)
def views(world: World) -> Iterator[Finding]:
    marks = _personal_values(world)
    declared = [view.name for view in world.declared.views]
    for role in world.login_roles:
        readable = 0
        for (view,) in world.session(role).execute(VIEWS).fetchall():
            query = sql.SQL("SELECT v::text FROM {} v LIMIT 1000").format(sql.Identifier(*view.split(".")))
            seen = world.attempt(role, query, person=world.people["anna"])
            if seen.is_denied:
                continue
            readable += 1
            if reach.of(world.declared, role, view) is Reach.NONE:
                yield Finding(role, view, f"is readable ({seen}) and not declared to be")
            shown = {mark for (text,) in seen.values for mark in marks if mark in text}
            if shown and view in declared:
                yield Finding(role, view, f"shows {len(shown)} personal values")
        wanted = [view for view in declared if reach.of(world.declared, role, view) is Reach.ALL]
        require(readable >= len(wanted), f"{role} cannot read the views it needs ({', '.join(wanted)})")


def _personal_values(world: World) -> set[str]:
    """Ids, names, addresses, hashes and tokens of the seeded people."""
    rows = [row for table in world.seed.rows.values() for row in table]
    columns = ("id", "user_id", "username", "email", "password_hash", "token", "bio")
    return {str(row[column]) for row in rows for column in columns if column in row}


@probe(
    "P19",
    "row_security = off shows no more",
    area="read",
    sources=("PostgreSQL manual 20.11 row_security", *SOURCES),
)
def row_security_off(world: World) -> Iterator[Finding]:
    anna = world.people["anna"]
    for role in world.login_roles:
        with world.connect(role) as connection:
            connection.execute("SET row_security = off")
            for table in world.declared.tables:
                if reach.of(world.declared, role, table) is Reach.ALL:
                    continue
                query = sql.SQL("SELECT id FROM {} LIMIT 1000").format(sql.Identifier(*table.split(".")))
                for context in (None, world.context(anna, connection)):
                    seen = attempt(connection, query, user_id=context)
                    if not seen.is_harmless:
                        yield Finding(role, table, f"with row_security = off: {seen}")
            # With it off, a role that policies bind is refused, and one that may pass them by is not.
            yield from _off_tells(world, role, connection)


def _off_tells(world: World, role: str, connection: Connection) -> Iterator[Finding]:
    declared = world.declared.roles[role].bypass_row_security
    found = connection.execute("SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if found is not None and bool(found[0]) and not declared:
        yield Finding(role, "row security", "passes it by, and is not declared to")


@probe(
    "P22",
    "An error in a query tells nothing of a hidden row",
    area="read",
    sources=("PostgreSQL manual 41.5 Rules and Privileges", "CVE-2017-7484"),
)
def error_oracle(world: World) -> Iterator[Finding]:
    """A division by zero, or a cast, for hidden rows only: it must never happen. For visible rows it must."""
    for role, table in reach.bound_to_user(world.declared):
        name = sql.Identifier(*table.split("."))
        for person in (world.people["anna"], world.people["dora"]):
            visible = sorted(world.seed.visible(table, person))
            hidden = sorted(world.seed.ids(table) - set(visible))
            for form, query in (
                ("1/0", "SELECT FROM {} WHERE 1 / (CASE WHEN id = ANY(%s) THEN 0 ELSE 1 END) = 1 AND id = ANY(%s)"),
                (
                    "1/0 in a join",
                    "SELECT FROM {} JOIN unnest(%s::uuid[]) k ON 1 / (id <> k)::int = 1 WHERE id = ANY(%s)",
                ),
            ):
                statement = sql.SQL(query).format(name)
                if visible:
                    own = world.attempt(role, statement, [visible, visible], person=person)
                    require(own.sqlstate == DIVISION_BY_ZERO, f"{form} on own rows of {table} is no error ({own})")
                other = world.attempt(role, statement, [hidden, hidden], person=person)
                if other.sqlstate is not None:
                    yield Finding(role, table, f"{form} on hidden rows: {other}")
