"""P06 and P08: does a connection that many users share in turn ever show one the rows of another?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from dbkeep.checks.attempts import attempt
from dbkeep.postgresql.prove import pooler, reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.probes.context import sees_only_own
from dbkeep.postgresql.prove.world import Connection, World
from dbkeep.prove.probe import CannotTell, Finding, require

API = "app_api"
WORKERS = 50
TRANSACTIONS = 200
CONNECTIONS = 20
LIMIT_SECONDS = 120
SOURCES = ("PgBouncer manual: pool_mode", "psycopg manual: Connection pools", "PostgreSQL manual 9.27 set_config")


@probe("P06", "A pooled connection does not carry a user to the next borrower", area="context", sources=SOURCES)
def pooled_reuse(world: World) -> Iterator[Finding]:
    with ConnectionPool(kwargs=world.keywords(API), min_size=1, max_size=1, open=True) as pool:
        for careless in (False, True):
            for name, failing in (("anna", False), ("ben", True)):
                with suppress(psycopg.errors.DivisionByZero), pool.connection() as connection:
                    yield from _borrowed(world, connection, name, "psycopg_pool")
                    if failing:
                        connection.execute("SELECT 1 / 0")
                if not careless:
                    with pool.connection() as connection:
                        yield from _sees_nothing(world, connection, "psycopg_pool")
            # A session-wide SET stays on a pooled connection: whoever acts as the API does is not touched by it.
            with pool.connection() as connection:
                connection.execute("SELECT set_config('app.user_id', %s, false)", [str(world.people["carl"].id)])
    # A signed context names the session, which behind PgBouncer the client cannot know.
    if world.is_copy and world.declared.scope.context == "plain":
        yield from _through_pgbouncer(world)


def _borrowed(world: World, connection: Connection, name: str, pool: str) -> Iterator[Finding]:
    wrong = sees_only_own(world, connection, world.people[name])
    if wrong:
        yield Finding(API, pool, wrong)


def _sees_nothing(world: World, connection: Connection, pool: str) -> Iterator[Finding]:
    for role, relation in reach.bound_to_user(world.declared):
        if role == API:
            seen = attempt(connection, reach.any_row(relation))
            if not seen.is_harmless:
                yield Finding(API, relation, f"the next borrower of {pool} without a context: {seen}")


def _through_pgbouncer(world: World) -> Iterator[Finding]:
    require(pooler.program(), "PgBouncer is not installed: install the Debian package pgbouncer")
    try:
        with pooler.pgbouncer(world.keywords(API)) as keywords, _client(keywords) as one, _client(keywords) as other:
            require(_backend(one) == _backend(other), "two clients of PgBouncer did not share a server connection")
            for name, following in (("anna", "ben"), ("ben", "carl")):
                with one.transaction():
                    yield from _borrowed(world, one, name, "PgBouncer")
                yield from _sees_nothing(world, other, "PgBouncer")
                with other.transaction():
                    yield from _borrowed(world, other, following, "PgBouncer")
    except TimeoutError as error:
        raise CannotTell(str(error)) from None


def _client(keywords: dict[str, Any]) -> Connection:
    # A statement that one client prepared is not there on the server connection that the next transaction gets.
    return psycopg.connect(**keywords, autocommit=True, prepare_threshold=None)


def _backend(connection: Connection) -> int:
    return int(connection.execute("SELECT pg_backend_pid()").fetchone()[0])  # type: ignore[index]


@probe(
    "P08",
    f"{WORKERS} workers with {TRANSACTIONS} transactions each see only rows of the user they act for",
    area="context",
    sources=SOURCES,
    live=False,
    slow=True,
)
def concurrent_workers(world: World) -> Iterator[Finding]:
    people = [person for person in world.people.values() if person.is_active]
    deadline = time.monotonic() + LIMIT_SECONDS

    def work(number: int) -> tuple[int, list[str]]:
        done, wrong = 0, []
        while done < TRANSACTIONS and time.monotonic() < deadline:
            with pool.connection() as connection:
                found = sees_only_own(world, connection, people[(number + done) % len(people)])
            wrong += [found] if found else []
            done += 1
        return done, wrong

    with (
        ConnectionPool(
            kwargs=world.keywords(API), min_size=CONNECTIONS, max_size=CONNECTIONS, timeout=LIMIT_SECONDS, open=True
        ) as pool,
        ThreadPoolExecutor(WORKERS) as workers,
    ):
        results = list(workers.map(work, range(WORKERS)))
    for problem in sorted({text for _, wrong in results for text in wrong}):
        yield Finding(API, "chat.users, chat.settings", problem)
    done = sum(count for count, _ in results)
    require(done == WORKERS * TRANSACTIONS, f"only {done} transactions in {LIMIT_SECONDS} s")
