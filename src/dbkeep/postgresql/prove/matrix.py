"""The matrix role x relation x privilege: what is declared, what is granted, and what happens when the role tries.

Beside a privilege stand the policies that say to which rows it applies, as declared and as the server has them.

A privilege is a set of columns; one that is not about columns is the set of one column named *.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from dbkeep.checks.attempts import Attempt, Statement, attempt
from dbkeep.postgresql.prove import declared_rights, reach
from dbkeep.postgresql.prove.declared_rights import BY_COLUMN, BY_ROW, WHOLE
from dbkeep.postgresql.prove.world import Connection, World
from dbkeep.prove.probe import Finding

PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
MAINTAIN, WITH_MAINTAIN = "MAINTAIN", 170000
WHOLE_TABLE = ("TRUNCATE", "TRIGGER", "MAINTAIN")
NOTHING: frozenset[str] = frozenset()
LEGEND = """declared / granted / observed; a number is one of columns;
* row security lets no row through: the table has no policy for it"""
# What the relation is, not the role, is in the way: its type, no column id, no unique key, a view of groups.
NOT_ABOUT_RIGHTS = ("42809", "42830", "42703", "42704", "55000")

RELATIONS = f"""
SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND a.attnum > 0 AND NOT a.attisdropped AND {reach.OUR_OWN.format("c")}
GROUP BY n.nspname, c.relname, c.relkind ORDER BY n.nspname, c.relkind, c.relname
"""
# A privilege is one of the role itself, of a role that it inherits from, of PUBLIC, or comes with an attribute.
GRANTED = """
SELECT r.rolname, n.nspname || '.' || c.relname, p.privilege,
       CASE WHEN p.privilege = ANY(%(by_column)s) THEN ARRAY(
           SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND has_column_privilege(r.oid, c.oid, a.attnum, p.privilege))
       WHEN has_table_privilege(r.oid, c.oid, p.privilege)
           OR (p.privilege = 'REFERENCES' AND has_any_column_privilege(r.oid, c.oid, p.privilege)) THEN ARRAY['*']
       ELSE ARRAY[]::text[] END,
       has_schema_privilege(r.oid, n.oid, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles r, unnest(%(privileges)s::text[]) p (privilege)
WHERE n.nspname || '.' || c.relname = ANY(%(relations)s) AND r.rolname = ANY(%(roles)s)
"""
# A policy is for a role, for those that inherit from it, or for PUBLIC.
POLICIES = """
SELECT r.rolname, n.nspname || '.' || c.relname, c.privilege, p.polname::text
FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_roles r ON r.rolname = ANY(%(roles)s)
    AND EXISTS (SELECT FROM unnest(p.polroles) o WHERE o = 0 OR pg_has_role(r.oid, o, 'USAGE')),
LATERAL (SELECT t.relname, privilege FROM unnest(%(by_row)s::text[], ARRAY['r', 'a', 'w', 'd']) v (privilege, code)
    WHERE p.polcmd IN ('*', code::"char")) c
"""
TRIALS: dict[str, str] = {
    "SELECT": "SELECT {columns} FROM {relation} LIMIT 1",
    "INSERT": "INSERT INTO {relation} ({columns}) SELECT {nulls} WHERE false",
    "UPDATE": "UPDATE {relation} SET {assignments} WHERE false",
    "DELETE": "DELETE FROM {relation} WHERE false",
    "TRUNCATE": "TRUNCATE {relation}",
    "REFERENCES": "CREATE TABLE probe.child (LIKE {relation}, FOREIGN KEY (id) REFERENCES {relation})",
    "MAINTAIN": "REINDEX TABLE {relation}",
    "TRIGGER": "CREATE TRIGGER probe BEFORE INSERT ON {relation} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One privilege of one role on one relation, three times; `observed` is None where it cannot be tried.

    `effective` is what is granted and can be used: nothing is without USAGE on the schema. `rowless` tells that row
    security binds the role there and no policy is declared that lets the privilege at a row.
    """

    role: str
    relation: str
    privilege: str
    columns: tuple[str, ...]
    declared: frozenset[str]
    granted: frozenset[str]
    effective: frozenset[str]
    observed: frozenset[str] | None
    declared_policies: frozenset[str]
    live_policies: frozenset[str]
    rowless: bool

    @property
    def agrees(self) -> bool:
        same_rows = self.is_empty or self.declared_policies == self.live_policies
        return same_rows and self.declared == self.granted and self.observed in (None, self.effective)

    @property
    def is_empty(self) -> bool:
        return not (self.declared or self.granted or self.observed)

    @property
    def target(self) -> str:
        return self.relation

    @property
    def action(self) -> str:
        return self.privilege

    @property
    def is_tried(self) -> bool:
        return self.observed is not None

    @property
    def text(self) -> str:
        """The three in a short form each."""
        three = "/".join(self._shown(columns) for columns in (self.declared, self.granted, self.observed))
        return f"{three}*" if self.rowless else three

    def as_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "relation": self.relation,
            "privilege": self.privilege,
            "declared": sorted(self.declared),
            "granted": sorted(self.granted),
            "observed": None if self.observed is None else sorted(self.observed),
            "declared_policies": sorted(self.declared_policies),
            "live_policies": sorted(self.live_policies),
        }

    def _shown(self, columns: frozenset[str] | None) -> str:
        """Return a short form of one of the three: '-' for nothing, 'all', or the number of columns."""
        if columns is None:
            return "?"
        if not columns:
            return "-"
        whole = columns == WHOLE or len(columns) == len(self.columns)
        return "all" if whole else str(len(columns))


def observe(world: World) -> Iterator[Cell]:
    """Try every privilege of every declared role on every relation of the database, and yield what was found."""
    relations = {
        name: tuple(columns) for name, columns in world.session(world.login_roles[0]).execute(RELATIONS).fetchall()
    }
    version = world.session(world.login_roles[0]).info.server_version
    tried = (*PRIVILEGES, MAINTAIN) if version >= WITH_MAINTAIN else PRIVILEGES
    granted, policies = _granted(world, list(relations), tried), _policies(world)
    for role in sorted(world.declared.roles, key=lambda name: name not in world.first):
        with _as_role(world, role) as connection:
            for relation in sorted(relations, key=lambda name: name not in world.first):
                columns = relations[relation]
                for privilege in tried:
                    wanted = declared_rights.columns_of(world.declared, role, relation, privilege, columns)
                    have, usable = granted[role, relation, privilege]
                    key = role, relation, privilege
                    cell = Cell(
                        *key, columns, wanted, have, have if usable else NOTHING, None,
                        declared_rights.policies(world.declared, *key), frozenset(policies.get(key, ())),
                        declared_rights.is_rowless(world.declared, *key),
                    )  # fmt: skip
                    yield replace(cell, observed=_observed(world, connection, cell))


def findings(cells: Sequence[Cell]) -> Iterator[Finding]:
    """Yield every disagreement between what is declared, granted and observed."""
    for cell in cells:
        if cell.agrees:
            continue
        parts = [
            _difference("granted, not declared", cell.granted - cell.declared),
            _difference("declared, not granted", cell.declared - cell.granted),
        ]
        if cell.observed is not None:
            parts += [
                _difference("possible, not granted", cell.observed - cell.effective),
                _difference("granted, not possible", cell.effective - cell.observed),
            ]
        parts += [
            _difference("policies that are not declared", cell.live_policies - cell.declared_policies),
            _difference("policies that are not there", cell.declared_policies - cell.live_policies),
        ]
        yield Finding(cell.role, f"{cell.privilege} {cell.relation}", "; ".join(part for part in parts if part))


def _difference(words: str, columns: frozenset[str]) -> str:
    return f"{words}: {', '.join(sorted(columns))}" if columns else ""


def _policies(world: World) -> dict[tuple[str, str, str], set[str]]:
    parameters = {"roles": list(world.declared.roles), "by_row": list(BY_ROW)}
    found: dict[tuple[str, str, str], set[str]] = {}
    for role, relation, privilege, name in world.session(world.login_roles[0]).execute(POLICIES, parameters):
        found.setdefault((role, relation, privilege), set()).add(name)
    return found


def _granted(
    world: World, relations: list[str], privileges: Sequence[str]
) -> dict[tuple[str, str, str], tuple[frozenset[str], bool]]:
    parameters = {
        "by_column": list(BY_COLUMN),
        "privileges": list(privileges),
        "relations": relations,
        "roles": list(world.declared.roles),
    }
    found = world.session(world.login_roles[0]).execute(GRANTED, parameters).fetchall()
    return {
        (role, relation, privilege): (frozenset(columns), usable)
        for role, relation, privilege, columns, usable in found
    }


@contextmanager
def _as_role(world: World, role: str) -> Iterator[Connection | None]:
    """Yield a session as `role`: its own where it logs on, one that became it where the world is a copy."""
    if world.declared.roles[role].login:
        yield world.session(role)
    elif world.is_copy:
        with world.lent(role) as connection:
            yield connection
    else:
        yield None  # what the owner may do would lock whole tables of a live server


def _observed(world: World, connection: Connection | None, cell: Cell) -> frozenset[str] | None:
    """Try what is expected at once, and every other column alone."""
    if connection is None or (not world.is_copy and cell.privilege in WHOLE_TABLE and cell.granted):
        return None
    if cell.privilege == "REFERENCES":
        return _references(world, cell.role, cell.relation)
    expected = cell.declared | cell.granted
    if cell.privilege not in BY_COLUMN:
        return _try(connection, cell, (), WHOLE)
    if not expected and cell.privilege != "UPDATE":
        # Without a column it takes the right to any one of them.
        return _try(connection, cell, (), frozenset(cell.columns))
    possible = _try(connection, cell, sorted(expected), expected) if expected else NOTHING
    if possible is None:
        return None
    for column in cell.columns:
        if column not in possible:
            possible |= _try(connection, cell, (column,), frozenset({column})) or NOTHING
    return possible


def _try(connection: Connection, cell: Cell, columns: Sequence[str], allowed: frozenset[str]) -> frozenset[str] | None:
    return _outcome(attempt(connection, _statement(cell.privilege, cell.relation, columns)), allowed)


def _references(world: World, role: str, relation: str) -> frozenset[str] | None:
    """A table that refers to it needs a place, which can be lent in a copy only."""
    if not world.is_copy:
        return None
    with world.lent(role, "CREATE SCHEMA probe", f"GRANT ALL ON SCHEMA probe TO {role}") as connection:
        return _outcome(attempt(connection, _statement("REFERENCES", relation, ())), WHOLE)


def _outcome(tried: Attempt, allowed: frozenset[str]) -> frozenset[str] | None:
    if tried.is_denied:
        return NOTHING
    return None if tried.sqlstate in NOT_ABOUT_RIGHTS else allowed


def _statement(privilege: str, relation: str, columns: Sequence[str]) -> Statement:
    names = [sql.Identifier(name) for name in columns]
    text = TRIALS[privilege] if columns or privilege != "INSERT" else TRIALS[privilege].replace("({columns})", "")
    return sql.SQL(text).format(
        relation=sql.Identifier(*relation.split(".")),
        columns=sql.SQL(", ").join(names),
        nulls=sql.SQL(", ").join([sql.SQL("NULL")] * len(names)),
        assignments=sql.SQL(", ").join(sql.SQL("{} = NULL").format(name) for name in names),
    )
