"""P41, P42 and P44: what do sessions tell each other past the tables: channels, locks, large objects, query texts?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

from psycopg import sql

from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

API = "app_api"
ADVISORY_LOCK = 0x70726F6265
SOURCES = (
    "PostgreSQL manual: LISTEN",
    "PostgreSQL manual 13.3 Explicit Locking",
    "PostgreSQL manual 28.2 pg_stat_activity",
)
CLOSED_FUNCTIONS = """
SELECT n.nspname || '.' || p.proname,
       ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, number) ORDER BY number)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname || '.' || p.proname LIKE ANY(%s) ORDER BY 1, 2
"""
READS_QUERIES = {"pg_monitor", "pg_read_all_stats"}


@probe(
    "P41", "Roles tell each other nothing by channels, advisory locks or large objects", area="leak", sources=SOURCES
)
def shared_state(world: World) -> Iterator[Finding]:
    for role in world.login_roles:
        if role != API:
            yield from _channel(world, role)
            yield from _advisory_lock(world, role)
    yield from _large_objects(world)


def _channel(world: World, role: str) -> Iterator[Finding]:
    with world.connect(role) as listener, world.connect(API) as speaker:
        listener.execute("LISTEN dbkeep_probe")
        speaker.execute("NOTIFY dbkeep_probe, 'word'")
        listener.execute("SELECT")
        if any(word.payload == "word" for word in listener.notifies(timeout=0)):
            yield Finding(role, "LISTEN", f"hears what {API} notifies", leak="notifications")


def _advisory_lock(world: World, role: str) -> Iterator[Finding]:
    with world.connect(API) as holder:
        taken = holder.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK]).fetchone()
        require(taken == (True,), "the advisory lock of the probe is held by another session")
        if world.attempt(role, "SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK]).values == ((False,),):
            yield Finding(role, "advisory lock", f"is not free while {API} holds it", leak="advisory_locks")


def _large_objects(world: World) -> Iterator[Finding]:
    """Large objects are storage outside row security: their functions are declared as closed to everybody."""
    patterns = [name.replace("_", r"\_").replace("*", "%") for name in world.declared.scope.closed_to_public.functions]
    for role in world.login_roles:
        for name, types in world.session(role).execute(CLOSED_FUNCTIONS, [patterns]).fetchall():
            if not world.attempt(role, _call(name, types)).is_denied:
                yield Finding(role, f"{name}({', '.join(types)})", "can be called")


def _call(name: str, types: list[str]) -> sql.Composed:
    """A call that the server prepares, so that it asks for the right, and never makes: there is no row to make it for.

    NULLs from a subquery are no constants, which the planner would fold without asking.
    """
    arguments = sql.SQL(", ").join(sql.Identifier(f"a{number}") for number in range(len(types)))
    nulls = sql.SQL(", ").join(
        sql.SQL("NULL::{} AS {}").format(sql.SQL(of_type), sql.Identifier(f"a{number}"))
        for number, of_type in enumerate(types)
    )
    return sql.SQL("SELECT {}({}) FROM (SELECT {} OFFSET 0) AS arguments LIMIT 0").format(
        sql.Identifier(*name.split(".")), arguments, nulls
    )


@probe("P42", "Locks tell nothing of hidden rows", area="leak", sources=SOURCES, live=False)
def locks(world: World) -> Iterator[Finding]:
    yield from _row_locks(world)
    with world.connect(API) as busy, world.acting_as(busy, world.people["ben"]):
        busy.execute("SELECT FROM chat.settings")
        for role in world.login_roles:
            seen = world.attempt(
                role, "SELECT FROM pg_locks WHERE pid = %s AND relation IS NOT NULL", [busy.info.backend_pid]
            )
            if seen.rows:
                yield Finding(role, "pg_locks", f"shows which tables {API} uses now", leak="lock_table")


def _row_locks(world: World) -> Iterator[Finding]:
    """Whether a row of another user that is locked answers differently from one that does not exist."""
    hidden = min(world.seed.own("chat.settings", world.people["carl"]))
    with closing(world.connect(API)) as holder, world.acting_as(holder, world.people["carl"]):
        held = holder.execute("SELECT FROM chat.settings WHERE id = %s FOR UPDATE", [hidden])
        require(held.rowcount == 1, "carl cannot lock a row of his own")
        for role, table in reach.bound_to_user(world.declared):
            if table != "chat.settings":
                continue
            for strength in ("FOR UPDATE NOWAIT", "FOR UPDATE SKIP LOCKED", "FOR SHARE NOWAIT"):
                query = sql.SQL("SELECT FROM chat.settings WHERE id = {} " + strength)
                answers = [
                    world.attempt(role, query.format(key), person=world.people["anna"]) for key in (hidden, uuid4())
                ]
                if answers[0] != answers[1]:
                    yield Finding(role, table, f"{strength}: locked {answers[0]}, missing {answers[1]}")


@probe("P44", "No role reads the statements of other sessions", area="leak", sources=SOURCES)
def query_texts(world: World) -> Iterator[Finding]:
    word = f"probe {secrets.token_hex(8)}"
    for victim in world.login_roles:
        with world.connect(victim) as busy:
            busy.execute(sql.SQL("SELECT {}").format(sql.Literal(word)))
            for role in world.login_roles:
                seen = world.attempt(
                    role, "SELECT FROM pg_stat_activity WHERE pid = %s AND strpos(query, %s) > 0",
                    [busy.info.backend_pid, word],
                )  # fmt: skip
                if seen.rows:
                    yield Finding(
                        role, "pg_stat_activity", f"shows the statements of {victim}", leak=_reader(world, role, victim)
                    )


def _reader(world: World, role: str, victim: str) -> str:
    if role == victim:
        return "own_role_statements"
    return "monitored_statements" if READS_QUERIES.intersection(world.declared.roles[role].member_of) else ""
