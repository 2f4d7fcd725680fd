"""The difference between declared and live PostgreSQL, as an ordered list of changes. Pure: nothing here does I/O.

The order is what lets one pass converge, and what closes before it opens: roles exist before what they own, revokes
come before anything new, functions that triggers and policies call before those, grants at the very end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dbkeep.plan import Change
from dbkeep.postgresql.diff import functions as diff_functions
from dbkeep.postgresql.diff import grants as diff_grants
from dbkeep.postgresql.diff import objects as diff_objects
from dbkeep.postgresql.diff import others as diff_others
from dbkeep.postgresql.diff import roles as diff_roles
from dbkeep.postgresql.diff import tables as diff_tables
from dbkeep.postgresql.inspect import Live, LivePolicy
from dbkeep.postgresql.models import Declared


@dataclass(frozen=True, slots=True)
class Normal:
    """The declared expressions as the server prints them, so that they compare with live ones.

    `functions` maps a name to its argument types and definition. What the server cannot resolve yet (it needs a
    pending migration) is missing here and counts as changed.
    """

    policies: Mapping[tuple[str, str], LivePolicy] = field(default_factory=dict)
    functions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)


def _newest_first(*numbered: tuple[int, Change]) -> list[Change]:
    """What uses another object was made after it, so it goes before it."""
    return [change for _, change in sorted(numbered, key=lambda pair: pair[0], reverse=True)]


def diff(declared: Declared, live: Live, normal: Normal, secrets: Mapping[str, str]) -> list[Change]:
    """Return the changes that make `live` as `declared`, in the order to run them.

    `secrets` maps a role that logs on to its password. A role without an entry keeps the password it has.
    """
    functions = diff_functions.Functions(declared, live, normal.functions)
    objects = diff_objects.Objects(declared, live, normal.views)
    revokes, grants = diff_grants.grants(declared, live, functions.recreated() | objects.recreated())
    return [
        *diff_roles.roles(declared, live),
        *diff_roles.passwords(declared, live, secrets),
        *diff_roles.memberships(declared, live),
        *diff_objects.database(declared, live),
        *diff_roles.settings(declared, live),
        *diff_objects.schemas(declared, live),
        *diff_others.extensions(declared, live),
        *diff_grants.default_privileges(declared, live),
        *revokes,
        *functions.changes(trigger=True),
        *diff_tables.tables(declared, live),
        *objects.migrations(),
        *objects.tables(),
        *diff_others.missing(declared, live),
        *diff_others.owners(declared, live),
        *functions.changes(trigger=False),
        *objects.row_security(),
        *objects.policies(normal.policies),
        *objects.views(),
        *grants,
        *diff_others.undeclared(declared, live, first=True),
        *_newest_first(*objects.undeclared(), *functions.undeclared()),
        *diff_others.undeclared(declared, live, first=False),
        *diff_roles.undeclared(declared, live),
    ]
