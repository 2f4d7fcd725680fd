"""What the declared state lets a role do with a relation, its rows and its columns.

A privilege is a set of columns; one that is not about columns is the set of one column named *.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.prove import reach

BY_ROW = ("SELECT", "INSERT", "UPDATE", "DELETE")
BY_COLUMN = ("SELECT", "INSERT", "UPDATE")
WHOLE = frozenset({"*"})


def columns_of(declared: Declared, role: str, relation: str, privilege: str, columns: Sequence[str]) -> frozenset[str]:
    """Return the columns that a privilege of a role reaches, those it inherits too: every one where the role owns."""
    whole = frozenset(columns) if privilege in BY_COLUMN else WHOLE
    schema = relation.split(".", 1)[0]
    is_view = relation in {view.name for view in declared.views}
    owner = declared.scope.definer if is_view else declared.scope.owner
    if role == owner and schema in declared.scope.managed_schemas:
        return whole
    entry = declared.roles[role]
    found: set[str] = set()
    if privilege == "SELECT" and reach.READS_ALL in entry.member_of:
        return whole
    own = entry.grants.relations.get(relation, {}).get(privilege, ())  # type: ignore[call-overload]
    found |= whole if own == "all" else set(own)
    if entry.inherit:
        for group in entry.member_of:
            if group in declared.roles:
                found |= columns_of(declared, group, relation, privilege, columns)
    return frozenset(found)


def policies(declared: Declared, role: str, relation: str, privilege: str) -> frozenset[str]:
    """Return the names of the policies that say to which rows the privilege applies."""
    entry = declared.roles[role]
    groups = {role, *(entry.member_of if entry.inherit else ())}
    return frozenset(
        policy.name
        for policy in declared.policies
        if policy.table == relation and groups.intersection(policy.roles)
        and privilege in BY_ROW and policy.command in (privilege, "ALL")
    )  # fmt: skip


def is_rowless(declared: Declared, role: str, relation: str, privilege: str) -> bool:
    """Say whether row security binds the role there and no policy lets the privilege at a row."""
    names = policies(declared, role, relation, privilege)
    permissive = [p for p in declared.policies if p.table == relation and p.name in names and p.permissive]
    bound = relation in declared.tables and not declared.roles[role].bypass_row_security and privilege in BY_ROW
    return bound and not permissive
