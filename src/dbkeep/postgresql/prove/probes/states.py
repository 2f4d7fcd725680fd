"""P31 and P33: do rows only ever take the ways that are meant for them, and does a block stay a secret?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString, NamedTuple
from uuid import uuid4

from dbkeep.checks.attempts import Attempt, Step, attempt
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.seed import Person
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

API, AUTH = "app_api", "app_auth"
REQUEST: LiteralString = "SELECT chat.request_friendship(gen_random_uuid(), %s)"
BLOCK: LiteralString = "SELECT chat.block_user(gen_random_uuid(), %s)"
ACCEPT: LiteralString = "SELECT chat.answer_friendship(%s, true)"
REJECT: LiteralString = "SELECT chat.answer_friendship(%s, false)"
END: LiteralString = "SELECT chat.end_relationship(%s)"

Action = tuple[str, LiteralString, str]
"""Who does it, the statement, and the person whose id is its parameter."""


class Way(NamedTuple):
    """A way through the states: steps that are allowed, then one that must be (`works`) or must not."""

    title: str
    steps: tuple[Action, ...]
    last: Action
    works: bool = False


WAYS = (
    Way("a request is accepted by the one who was asked", (), ("anna", ACCEPT, "erik"), works=True),
    Way("a request is accepted by the one who asked", (), ("ben", ACCEPT, "carl")),
    Way("a request between two others is accepted", (), ("anna", ACCEPT, "ben")),
    Way("a request is accepted without one", (), ("fred", ACCEPT, "gina")),
    Way("a rejected request is accepted later", (), ("fred", ACCEPT, "anna")),
    Way("an accepted request is rejected later", (), ("ben", REJECT, "anna")),
    Way("a request is made twice", (), ("erik", REQUEST, "anna")),
    Way("a request is answered by a request", (), ("anna", REQUEST, "erik")),
    Way("a rejected request is withdrawn", (), ("anna", END, "fred")),
    Way("a rejected request is repeated", (), ("anna", REQUEST, "fred")),
    Way(
        "a rejected request is repeated after a block in between",
        (("anna", BLOCK, "fred"), ("anna", END, "fred")),
        ("anna", REQUEST, "fred"),
    ),
    Way(
        "a rejected request is repeated after a block that was ended",
        (("anna", BLOCK, "fred"), ("anna", END, "fred")),
        ("anna", REQUEST, "fred"),
    ),
    Way("a block after a rejection is ended", (("anna", BLOCK, "fred"),), ("anna", END, "fred"), works=True),
    Way("a block is ended that another made", (), ("anna", END, "carl")),
    Way("a deactivated user ends a block", (("anna", BLOCK, "fred"),), ("dora", END, "fred")),
    Way("the one who rejected a request deletes it", (), ("fred", END, "anna"), works=True),
    Way("a deleted request is repeated", (("fred", END, "anna"),), ("anna", REQUEST, "fred"), works=True),
    Way("a friendship is ended by either", (), ("ben", END, "anna"), works=True),
    Way("a block is ended by the blocked", (), ("gina", END, "anna")),
    Way("a block is ended by the one who made it", (), ("anna", END, "gina"), works=True),
    Way(
        "a blocked one asks again after the block ended",
        (("anna", END, "gina"),),
        ("gina", REQUEST, "anna"),
        works=True,
    ),
    Way("a friend who blocks is no friend any more", (("ben", BLOCK, "anna"),), ("anna", END, "ben")),
    Way("one asks who blocks oneself", (), ("anna", REQUEST, "carl")),
    Way("one blocks who blocks oneself", (), ("anna", BLOCK, "carl")),
    Way("one asks oneself", (), ("anna", REQUEST, "anna")),
    Way("one blocks oneself", (), ("anna", BLOCK, "anna")),
    Way("one asks a deactivated user", (), ("anna", REQUEST, "dora")),
    Way("a deactivated user asks", (), ("dora", REQUEST, "gina")),
    Way("a deactivated user blocks", (), ("dora", BLOCK, "ben")),
    Way("a deactivated user ends a friendship", (), ("dora", END, "anna")),
    Way(
        "a deactivated user activates itself",
        (),
        ("dora", "UPDATE chat.users SET is_active = true WHERE id = %s", "dora"),
    ),
    Way("a user activates itself", (), ("anna", "UPDATE chat.users SET is_active = true WHERE id = %s", "anna")),
    Way("a user verifies itself", (), ("anna", "UPDATE chat.users SET is_verified = true WHERE id = %s", "anna")),
    Way("a user renames itself", (), ("anna", "UPDATE chat.users SET username = 'x' WHERE id = %s", "anna")),
    Way(
        "a user deactivates itself",
        (),
        ("anna", "SELECT chat.deactivate_oneself() WHERE %s IS NOT NULL", "anna"),
        works=True,
    ),
    Way(
        "a status is changed by hand",
        (),
        ("anna", "UPDATE chat.relationships SET status = 'accepted' WHERE %s = user_id", "erik"),
    ),
)

# What app_auth must not be able to do, with the privileges lent that would be in the way of the policies' answer.
TOKENS = "chat.refresh_tokens"
AUTH_REFUSED: tuple[tuple[str, LiteralString], ...] = (
    ("a revoked token comes back", "UPDATE chat.refresh_tokens SET revoked = false, revoked_at = NULL WHERE revoked"),
    ("a live token is changed and not revoked", "UPDATE chat.refresh_tokens SET revoked_at = NULL, revoked = false"),
    ("a revoked token is revoked again", "UPDATE chat.refresh_tokens SET revoked_at = now() WHERE revoked"),
    (
        "an expired token is changed and not revoked",
        "UPDATE chat.refresh_tokens SET revoked_at = NULL, revoked = false WHERE expires_at < now()",
    ),
    ("a token lives longer", "UPDATE chat.refresh_tokens SET expires_at = now() + interval '9 years'"),
    ("a token changes its user", "UPDATE chat.refresh_tokens SET user_id = gen_random_uuid()"),
    ("a live token is deleted", "DELETE FROM chat.refresh_tokens WHERE expires_at > now()"),
    ("a user is deleted", "DELETE FROM chat.users"),
)
AUTH_DENIED: tuple[tuple[str, LiteralString], ...] = (
    ("a user is activated", "UPDATE chat.users SET is_active = true"),
    ("a user is renamed", "UPDATE chat.users SET username = id::text"),
    ("a user changes its address", "UPDATE chat.users SET email = 'e1:x'"),
    ("a user changes its id", "UPDATE chat.users SET id = gen_random_uuid()"),
    ("a profile is read", "SELECT bio FROM chat.profiles"),
    ("a profile is changed", "UPDATE chat.profiles SET bio = ''"),
)
ISSUE: LiteralString = """
INSERT INTO chat.refresh_tokens (id, user_id, family_id, token, expires_at, revoked, revoked_at)
SELECT gen_random_uuid(), id, gen_random_uuid(), md5(id::text) || md5(username), now() + interval '1 day', %s, %s
FROM chat.users WHERE id = %s
"""


@probe(
    "P31",
    "Friendships, blocks, accounts and tokens change state in the declared ways only",
    area="write",
    sources=("docs/decisions/friendships-change-through-functions.md", "RFC 9700 4.14 Refresh Token Protection"),
)
def states(world: World) -> Iterator[Finding]:
    for way in WAYS:
        last = _go(world, way)
        done = last.sqlstate is None and last.rows > 0
        require(done or not way.works, f"{way.title}: {last}")
        if done and not way.works:
            yield Finding(API, way.title, f"is possible: {last}")
    yield from _tokens(world)


def _go(world: World, way: Way) -> Attempt:
    """Take the steps and the last one in a transaction of the API's role that is rolled back."""
    steps: list[Step] = [
        (world.context(world.people[who], world.session(API)), statement, (world.people[whom].id,))
        for who, statement, whom in way.steps
    ]
    who, statement, whom = way.last
    return world.attempt(API, statement, [world.people[whom].id], person=world.people[who], after=steps)


def _tokens(world: World) -> Iterator[Finding]:
    ids = [person.id for person in world.people.values()]
    only = "" if world.is_copy else " AND user_id = ANY(%s)"
    for title, statement in (*AUTH_REFUSED, *AUTH_DENIED):
        bounded = statement if world.is_copy else _bounded(statement)
        tried = world.attempt(AUTH, bounded, [] if world.is_copy else [ids])
        if not tried.is_harmless:
            yield Finding(AUTH, title, f"is possible: {tried}")
    revoked = world.attempt(
        AUTH,
        f"UPDATE {TOKENS} SET revoked = true, revoked_at = now() WHERE NOT revoked{only}".encode(),
        [ids] * bool(only),
    )
    require(revoked.rows, f"{AUTH} cannot revoke a token ({revoked})")
    removed = world.attempt(AUTH, f"DELETE FROM {TOKENS} WHERE expires_at < now(){only}".encode(), [ids] * bool(only))
    require(removed.rows, f"{AUTH} cannot delete an expired token ({removed})")
    if world.is_copy:
        yield from _lent(world, ids[0])


def _bounded(statement: LiteralString) -> LiteralString:
    """On a live server a statement is about the seeded people only."""
    column: LiteralString = "id" if " chat.users" in statement else "user_id"
    return statement + (" AND " if " WHERE " in statement else " WHERE ") + column + " = ANY(%s)"


def _lent(world: World, user: Any) -> Iterator[Finding]:
    with world.lent(AUTH, f"GRANT ALL ON {TOKENS}, chat.users TO {AUTH}") as connection:
        for title, statement in AUTH_REFUSED:
            tried = attempt(connection, statement)
            if not tried.is_harmless:
                yield Finding(AUTH, title, f"is possible with all privileges lent: {tried}")
        issued = attempt(connection, ISSUE, [False, None, user])
        require(issued.rows == 1, f"{AUTH} cannot issue a token ({issued})")
        dead = attempt(connection, ISSUE, [True, "now", user])
        if not dead.is_denied:
            yield Finding(AUTH, "a token is issued that is revoked already", f"is possible: {dead}")


@probe(
    "P33",
    "One who blocks, one who is deactivated and one who does not exist answer alike",
    area="write",
    sources=("docs/decisions/friendships-change-through-functions.md",),
)
def blocker(world: World) -> Iterator[Finding]:
    anna = world.people["anna"]
    nobody = Person("nobody", uuid4(), "dbkeep-probe-nobody", is_active=False)
    expected = _all_answers(world, anna, nobody)
    friend = _all_answers(world, anna, world.people["ben"])
    require(friend != expected, "a friend answers like one who does not exist")
    for other in (world.people["carl"], world.people["dora"]):
        answers = _all_answers(world, anna, other)
        for statement, answer in answers.items():
            # A former friendship stays visible to both, whoever is deactivated.
            if answer != expected[statement] and not (other.name == "dora" and "relationship" in statement):
                yield Finding(API, statement.format(who=other.name), f"answers {answer}, not {expected[statement]}")


QUESTIONS: tuple[LiteralString, ...] = (
    "SELECT chat.request_friendship(gen_random_uuid(), %(id)s)",
    "SELECT chat.block_user(gen_random_uuid(), %(id)s)",
    "SELECT chat.answer_friendship(%(id)s, true)",
    "SELECT chat.answer_friendship(%(id)s, false)",
    "SELECT chat.end_relationship(%(id)s)",
    "SELECT chat.visible_among(ARRAY[%(id)s]::uuid[])",
    "SELECT chat.can_see(%(id)s)",
    "SELECT chat.find_user(%(name)s)",
    "SELECT count(*) FROM chat.profiles WHERE user_id = %(id)s",
    "SELECT count(*) FROM chat.users WHERE id = %(id)s",
    "SELECT count(*) FROM chat.relationships WHERE %(id)s IN (user_id, related_user_id)",
    "DELETE FROM chat.relationships WHERE %(id)s IN (user_id, related_user_id)",
    "UPDATE chat.profiles SET bio = '' WHERE user_id = %(id)s",
    "DELETE FROM chat.settings WHERE user_id = %(id)s",
)


def _all_answers(world: World, viewer: Person, other: Person) -> dict[str, tuple[object, ...]]:
    """Everything that the viewer learns from each question: rows, values, code and text."""
    found: dict[str, tuple[object, ...]] = {}
    for question in QUESTIONS:
        asked = world.attempt(API, question, {"id": other.id, "name": other.username}, person=viewer)
        found[question] = (asked.rows, asked.values, asked.sqlstate, asked.message)
    return found
