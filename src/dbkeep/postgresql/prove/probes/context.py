"""P01 to P10: does the context alone decide whose rows a role sees, and does it end when it should?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import psycopg

from dbkeep.checks.attempts import INVALID_TEXT, Attempt, attempt
from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.reach import Reach
from dbkeep.postgresql.prove.seed import Person
from dbkeep.postgresql.prove.world import Connection, World
from dbkeep.prove.probe import Finding, require

SOURCES = ("CIS PostgreSQL 17 4.7", "PostgreSQL manual 5.9 Row Security Policies")
UNUSABLE = ("", " ", "0", "null", "00000000-0000-0000-0000-000000000000", "' OR true --", "{}")
# The server plans a prepared statement anew for five executions before it may keep a plan (manual, PREPARE).
BEYOND_GENERIC = 8


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
    yield from _sees_nothing(world, None, "deactivated user", world.people["dora"])


def _sees_nothing(world: World, context: str | None, name: str, person: Person | None = None) -> Iterator[Finding]:
    """Every role that is bound to a user, and every role on what it has no declared right to."""
    require_rows(world)
    for role in world.login_roles:
        for relation in reach.relations(world):
            if reach.of(world.declared, role, relation) is Reach.ALL:
                continue
            seen = world.attempt(role, reach.any_row(relation), context=context, person=person)
            if not (seen.is_harmless or seen.sqlstate == INVALID_TEXT):
                yield Finding(role, relation, f"{name}: {seen}")


def require_rows(world: World) -> None:
    """There is something to see, and a user sees it: otherwise seeing nothing proves nothing."""
    bound = reach.bound_to_user(world.declared)
    require(bound, "no role is declared to see the rows of its user")
    for role, relation in bound:
        seen = world.attempt(role, reach.any_row(relation), person=world.people["anna"])
        require(seen.rows > 0, f"{role} acting for anna sees nothing of {relation} ({seen})")


@probe(
    "P04",
    "The context ends with its transaction: committed, rolled back or failed",
    area="context",
    sources=("PostgreSQL manual 9.27 set_config", *SOURCES),
)
def context_ends(world: World) -> Iterator[Finding]:
    for role in _bound_roles(world):
        with world.connect(role) as connection:
            for ending in ("commit", "rollback", "error"):
                require(_use_and_end(world, connection, ending) > 0, f"{role} acting for anna sees no profile")
                yield from _leftovers(world, role, connection, f"after {ending}")


def _use_and_end(world: World, connection: Connection, ending: str) -> int:
    """Act for anna in one transaction, end it in the way named, and return how many profiles she saw."""
    seen = 0
    with suppress(psycopg.errors.DivisionByZero), connection.transaction(force_rollback=ending == "rollback"):
        world.act_for(connection, world.people["anna"])
        seen = connection.execute("SELECT FROM chat.profiles").rowcount
        if ending == "error":
            connection.execute("SELECT 1 / 0")
    return seen


def _leftovers(world: World, role: str, connection: Connection, when: str) -> Iterator[Finding]:
    """What a session without a context of its own still sees, or fails with."""
    for bound, relation in reach.bound_to_user(world.declared):
        if bound == role:
            seen: Attempt = attempt(connection, reach.any_row(relation))
            if not seen.is_harmless:
                yield Finding(role, relation, f"{when}: {seen}")


def _bound_roles(world: World) -> list[str]:
    return sorted({role for role, _ in reach.bound_to_user(world.declared)})


@probe("P05", "A context set outside a transaction has no effect", area="context", sources=SOURCES)
def context_outside_transaction(world: World) -> Iterator[Finding]:
    require_rows(world)
    for role in _bound_roles(world):
        with world.connect(role) as connection:
            anna = world.context(world.people["anna"], connection)
            connection.execute("SELECT set_config('app.user_id', %s, true)", [anna])
            yield from _leftovers(world, role, connection, "after set_config outside a transaction")
            connection.execute(psycopg.sql.SQL("SET LOCAL app.user_id = {}").format(psycopg.sql.Literal(anna)))
            yield from _leftovers(world, role, connection, "after SET LOCAL outside a transaction")


@probe("P07", "Rolling back to a savepoint brings the former user back", area="context", sources=SOURCES)
def savepoint(world: World) -> Iterator[Finding]:
    anna, ben = world.people["anna"], world.people["ben"]
    for role in _bound_roles(world):
        connection = world.session(role)
        with world.acting_as(connection, anna):
            before = _who(connection)
            with connection.transaction(force_rollback=True):
                world.act_for(connection, ben)
                between = _who(connection)
            after = _who(connection)
        require((before, between) == ({anna.id}, {ben.id}), f"{role} does not see the rows of whom it acts for")
        if after != before:
            yield Finding(role, "chat.settings", "after ROLLBACK TO a savepoint the user is not the former one")


def _who(connection: Connection) -> set[object]:
    return {owner for (owner,) in connection.execute("SELECT user_id FROM chat.settings").fetchall()}


@probe(
    "P09",
    "A prepared statement shows each user its own rows, however often it ran for others",
    area="context",
    sources=("PostgreSQL manual: PREPARE, Notes", "CVE-2016-2193"),
)
def prepared_statement(world: World) -> Iterator[Finding]:
    for role, table in reach.bound_to_user(world.declared):
        with world.connect(role) as connection:
            name = psycopg.sql.Identifier(*table.split("."))
            connection.execute(
                psycopg.sql.SQL("PREPARE probe (uuid[]) AS SELECT id FROM {} WHERE id = ANY($1)").format(name)
            )
            for mode in ("auto", "force_generic_plan"):
                connection.execute(f"SET plan_cache_mode = {mode}".encode())
                yield from _use_prepared(world, role, table, connection)
            plans = connection.execute("SELECT sum(generic_plans) FROM pg_prepared_statements").fetchone()
        require(plans and plans[0], f"no generic plan was used for {table}")


def _use_prepared(world: World, role: str, table: str, connection: Connection) -> Iterator[Finding]:
    for name in ["anna"] * BEYOND_GENERIC + ["ben", "carl", "dora"]:
        person = world.people[name]
        with world.acting_as(connection, person):
            execute = psycopg.sql.SQL("EXECUTE probe ({})").format(psycopg.sql.Literal(sorted(world.seed.ids(table))))
            found = {row for (row,) in connection.execute(execute).fetchall()}
        extra = (found & world.seed.ids(table)) - world.seed.visible(table, person)
        if extra:
            yield Finding(role, table, f"{name} got {len(extra)} rows of others from a prepared statement")


@probe(
    "P10",
    "A context set by hand gives no role more than its user's rows",
    area="context",
    sources=("PostgreSQL manual 9.27 set_config",),
)
def forged_context(world: World) -> Iterator[Finding]:
    """Whoever runs SQL as the API's role can name any user in the plain mode: that is in the leak budget."""
    require_rows(world)
    ben = world.people["ben"]
    for role in world.login_roles:
        for relation in reach.relations(world):
            without = world.attempt(role, reach.any_row(relation), context="")
            forged = world.attempt(role, reach.any_row(relation), context=str(ben.id))
            if forged.is_harmless or forged.rows <= without.rows:
                continue
            bound = reach.of(world.declared, role, relation) is Reach.USER
            yield Finding(
                role, relation, f"the bare id of a user shows {forged}", leak="forged_context" if bound else ""
            )


def sees_only_own(world: World, connection: Connection, person: Person) -> str | None:
    """Return what is wrong with the rows that `connection` shows in a transaction of `person`, None when nothing is."""
    world.act_for(connection, person)
    seen = connection.execute("SELECT id FROM chat.users UNION ALL SELECT user_id FROM chat.settings").fetchall()
    if len(seen) < 2:
        return f"{person.name} sees {len(seen)} rows of its own"
    foreign = sum(1 for (owner,) in seen if owner != person.id)
    return f"{person.name} sees {foreign} rows of others" if foreign else None
