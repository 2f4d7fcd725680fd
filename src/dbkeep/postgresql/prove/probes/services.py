"""P62 to P64: do the roles that serve everybody read and do all that is declared for them, and no more?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.checks.attempts import attempt
from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.reach import Reach
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

AUTH = "app_auth"
# The floors are for the API's role: without an active user they would stop every other role that they bound.
NOBODY_ACTIVE = "UPDATE chat.users SET is_active = false"
SOURCES = ("PostgreSQL manual 5.9 Row Security Policies",)


@probe(
    "P62", "A role that is declared to read every row reads every row, whoever is active", area="read",
    sources=SOURCES, live=False,
)  # fmt: skip
def every_row(world: World) -> Iterator[Finding]:
    asked = 0
    for role in world.declared.roles:
        for table, rows in world.seed.rows.items():
            if reach.of(world.declared, role, table) is not Reach.ALL:
                continue
            asked += 1
            with world.lent(role, NOBODY_ACTIVE) as connection:
                seen = attempt(connection, reach.any_row(table))
            if seen.rows < len(rows):
                yield Finding(role, table, f"reads {seen} of {len(rows)} rows")
    require(asked, "no role is declared to read every row of a table")


@probe(
    "P63", "Users register whoever is active", area="write", sources=SOURCES, live=False,
)  # fmt: skip
def registration(world: World) -> Iterator[Finding]:
    """A profile that is there already is refused by the policies before its key."""
    with world.lent(AUTH, NOBODY_ACTIVE) as connection:
        again = attempt(
            connection,
            b"INSERT INTO chat.profiles (id, user_id, display_name) VALUES (gen_random_uuid(), %s, 'x')",
            (world.people["anna"].id,),
        )
    require(again.sqlstate is not None, "anna has no profile")
    if again.is_denied:
        yield Finding(AUTH, "INSERT chat.profiles", f"a new user is refused: {again}")


@probe(
    "P64", "Functions deactivate active users, and change no other state of an account", area="write",
    sources=("docs/decisions/friendships-change-through-functions.md",), live=False,
)  # fmt: skip
def accounts(world: World) -> Iterator[Finding]:
    """Nobody can become the definer, so the superuser does."""
    definer = world.declared.scope.definer
    tried = {}
    for title, statement in (
        ("deactivates the active", b"UPDATE chat.users SET is_active = false WHERE is_active"),
        ("leaves the active active", b"UPDATE chat.users SET is_active = true WHERE is_active"),
        ("changes the deactivated", b"UPDATE chat.users SET is_active = false WHERE NOT is_active"),
        ("activates the deactivated", b"UPDATE chat.users SET is_active = true WHERE NOT is_active"),
    ):
        with world.lent(definer) as connection:
            tried[title] = attempt(connection, statement)
    works = tried.pop("deactivates the active")
    require(works.rows, f"{definer} cannot deactivate a user ({works})")
    for title, done in tried.items():
        if not done.is_harmless:
            yield Finding(definer, "UPDATE chat.users", f"{title}: {done}")
