"""P15: what functions tell, what they do for a user, and who may call them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from psycopg import sql

from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.seed import TIES, Person
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

API = "app_api"
NO_DATA_FOUND, UNIQUE_VIOLATION = "P0002", "23505"

FUNCTIONS = f"""
SELECT n.nspname || '.' || p.proname, ARRAY(SELECT format_type(type, NULL) FROM unnest(p.proargtypes) type),
       p.prokind::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND p.prokind IN ('f', 'p')
    AND {reach.OUR_OWN.format("p")}
ORDER BY 1
"""


@probe(
    "P15",
    "No function tells or does for a user what is not its own, and no role may call one that is not declared",
    area="read",
    sources=("STIG SV-261916", "PostgreSQL manual: CREATE FUNCTION"),
)
def functions(world: World) -> Iterator[Finding]:
    """What functions are (owner, security, search_path) is read in C04; here they are called."""
    found = world.session(API).execute(FUNCTIONS).fetchall()
    require(found, "the database has no function")
    for role in world.login_roles:
        yield from _calls(world, role, found)
    for viewer in (*world.people.values(), None):
        for other in world.people.values():
            yield from _tells(world, viewer, other)
            yield from _acts(world, viewer, other)


def _calls(world: World, role: str, found: list[tuple[Any, ...]]) -> Iterator[Finding]:
    """Call each function with NULLs: whether that is refused for want of rights is what counts."""
    declared = world.declared.roles[role].grants.functions
    for name, types, kind in found:
        call = sql.SQL("CALL {}({})" if kind == "p" else "SELECT {}({})").format(
            sql.Identifier(*name.split(".")), sql.SQL(", ").join(sql.SQL(f"NULL::{type_}") for type_ in types)
        )
        allowed = not world.attempt(role, call).is_denied
        if allowed and name not in declared:
            yield Finding(role, name, "may be called and is not declared to be")
        require(allowed or name not in declared, f"{role} may not call {name}, as it is declared to")


def _tells(world: World, viewer: Person | None, other: Person) -> Iterator[Finding]:
    known, context, who = _about(world, viewer, other)
    for name, query, argument, answer, nothing in (
        ("chat.can_see", b"SELECT chat.can_see(%s)", other.id, True, False),
        ("chat.find_user", b"SELECT chat.find_user(%s)", other.username, other.id, None),
        ("chat.visible_among", b"SELECT max(v::text)::uuid FROM chat.visible_among(%s) v", [other.id], other.id, None),
    ):
        if name not in _declared(world):
            continue
        told = world.attempt(API, query, [argument], context=context)
        require(not known or told.values == ((answer,),), f"{name} does not tell {who}: {told}")
        if not known and told.values != ((nothing,),):
            yield Finding(API, name, f"tells {who}: {told}")


def _acts(world: World, viewer: Person | None, other: Person) -> Iterator[Finding]:
    known, context, who = _about(world, viewer, other)
    may = known and viewer != other
    pair = (viewer.name if viewer else "", other.name)
    asked = pair in (("anna", "erik"), ("carl", "ben"))
    tied = viewer is not None and viewer.is_active and any(_may_end(tie, *pair) for tie in TIES)
    for name, call, parameters, allowed in (
        ("chat.request_friendship", b"SELECT chat.request_friendship(%s, %s)", [uuid4(), other.id], may),
        ("chat.block_user", b"SELECT chat.block_user(%s, %s)", [uuid4(), other.id], may),
        ("chat.answer_friendship", b"SELECT chat.answer_friendship(%s, true)", [other.id], asked),
        ("chat.end_relationship", b"SELECT chat.end_relationship(%s)", [other.id], tied),
    ):
        if name not in _declared(world):
            continue
        done = world.attempt(API, call, parameters, context=context)
        if not allowed and done.sqlstate is None:
            yield Finding(API, name, f"works for {who}")
        elif not allowed and done.sqlstate != NO_DATA_FOUND:
            yield Finding(API, name, f"answers {who} with {done}, unlike for a user that does not exist")
        # Two who are tied already cannot be tied again.
        works = done.sqlstate in (None, UNIQUE_VIOLATION)
        require(not allowed or works, f"{name} does not work for {who}: {done}")


def _declared(world: World) -> set[str]:
    return {function.name for function in world.declared.functions}


def _may_end(tie: tuple[str, str, str, str], viewer: str, other: str) -> bool:
    """One ends what one made, unless it was rejected, and a friendship or request that another made."""
    one, two, kind, status = tie
    return ((one, two) == (viewer, other) and status != "rejected") or (two, one, kind) == (viewer, other, "friend")


def _about(world: World, viewer: Person | None, other: Person) -> tuple[bool, str, str]:
    """Return whether `viewer`, None for no user, may know of `other`, the context to set, and words for both."""
    if viewer is None:
        return False, "", f"nobody about {other.name}"
    return (
        world.seed.knows_of(viewer, other),
        world.context(viewer, world.session(API)),
        f"{viewer.name} about {other.name}",
    )
