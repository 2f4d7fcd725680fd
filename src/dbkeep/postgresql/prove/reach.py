"""How far a role's reading is declared to reach: nothing of a relation, the rows of its user, or all rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from uuid import UUID

from psycopg import sql

from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.prove.seed import Person
from dbkeep.postgresql.prove.world import World

# What comes with an extension is the plan's to judge: it must be declared, and its makers say who may use it.
OUR_OWN = "NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = {}.oid AND e.deptype = 'e')"
RELATIONS = f"""
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND {OUR_OWN.format("c")}
ORDER BY 1
"""
READS_ALL = "pg_read_all_data"
SHARED = ("chat.profiles",)
"""Tables that show rows to others than their owner."""


class Reach(Enum):
    NONE = "none"
    USER = "user"
    ALL = "all"


def of(declared: Declared, role: str, relation: str) -> Reach:
    """Return the declared reach of `role` into `relation`, which may be one that nobody declared."""
    reads_all = READS_ALL in declared.roles[role].member_of
    if not reads_all and "SELECT" not in declared.roles[role].grants.relations.get(relation, {}):
        return Reach.NONE
    if relation not in declared.tables or declared.roles[role].bypass_row_security:
        return Reach.ALL
    policies = [p for p in declared.policies if p.table == relation and role in p.roles and p.command in _READING]
    if not any(policy.permissive for policy in policies):
        return Reach.NONE
    return Reach.ALL if all(policy.permissive for policy in policies) else Reach.USER


_READING = ("SELECT", "ALL")


def bound_to_user(declared: Declared) -> list[tuple[str, str]]:
    """Return every login role with each table of which it sees the rows of its user."""
    roles = [name for name, role in declared.roles.items() if role.login]
    return [(role, table) for role in roles for table in declared.tables if of(declared, role, table) is Reach.USER]


def relations(world: World) -> list[str]:
    """Return every table, view and foreign table outside the system's schemas, as the server has them."""
    found = world.session(world.login_roles[0]).execute(RELATIONS).fetchall()
    return [name for (name,) in found]


def any_row(relation: str) -> sql.Composed:
    """Return a query for rows of a relation that needs the right to read one column of it only."""
    return sql.SQL("SELECT FROM {} LIMIT 100").format(sql.Identifier(*relation.split(".")))


def readable_columns(declared: Declared, role: str, relation: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Return those of the `columns` of `relation` that `role` is declared to read."""
    if READS_ALL in declared.roles[role].member_of:
        return tuple(columns)
    granted = declared.roles[role].grants.relations.get(relation, {}).get("SELECT", ())
    return tuple(columns) if granted == "all" else granted


def foreign(world: World, table: str, viewer: Person | None, ids: Iterable[UUID]) -> set[UUID]:
    """Return those of `ids`, rows of `table`, that `viewer` must not see.

    On a live server there are other people, some of whose rows are for everyone.
    """
    extra = set(ids) - world.seed.visible(table, viewer)
    return extra if world.is_copy or table not in SHARED else extra & world.seed.ids(table)
