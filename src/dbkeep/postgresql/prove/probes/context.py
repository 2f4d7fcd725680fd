"""P01 to P10: does the context alone decide whose rows a role sees, and does it end when it should?"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

from dbkeep.checks.attempts import INVALID_TEXT, Attempt
from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import Finding, probe, require
from dbkeep.postgresql.prove.world import World

SOURCES = ("CIS PostgreSQL 17 4.7", "PostgreSQL manual 5.9 Row Security Policies")
UNUSABLE = ("", " ", "0", "null", "00000000-0000-0000-0000-000000000000", "' OR true --", "{}")


@probe("P01", "Without a context no role sees a row that belongs to a user", area="context", sources=SOURCES)
def no_context(world: World) -> Iterator[Finding]:
    yield from _sees_nothing(world, None, "no context")


@probe("P02", "An empty, blank, zero or malformed id sees nothing", area="context", sources=SOURCES)
def unusable_context(world: World) -> Iterator[Finding]:
    for value in UNUSABLE:
        yield from _sees_nothing(world, value, f"context {value!r}")


@probe("P03", "An unknown and a deactivated user see nothing", area="context", sources=SOURCES)
def unknown_context(world: World) -> Iterator[Finding]:
    yield from _sees_nothing(world, str(uuid4()), "unknown user")
    yield from _sees_nothing(world, world.context(world.people["dora"]), "deactivated user")


def _sees_nothing(world: World, context: str | None, name: str) -> Iterator[Finding]:
    """Every role that is bound to a user, and every role on what it has no declared right to."""
    _require_rows(world)
    for role in world.login_roles:
        for relation in reach.relations(world):
            if reach.of(world.declared, role, relation) is reach.Reach.ALL:
                continue
            seen = world.attempt(role, reach.any_row(relation), context=context)
            if not _is_nothing(seen):
                yield Finding(role, relation, f"{name}: {seen}")


def _is_nothing(seen: Attempt) -> bool:
    return seen.is_harmless or seen.sqlstate == INVALID_TEXT


def _require_rows(world: World) -> None:
    """There is something to see, and a user sees it: otherwise seeing nothing proves nothing."""
    anna = world.people["anna"]
    for role, relation in reach.bound_to_user(world.declared):
        seen = world.attempt(role, reach.any_row(relation), person=anna)
        require(seen.rows > 0, f"{role} acting for anna sees nothing of {relation} ({seen})")
