"""Every query of the API under row security finds its rows by an index, however many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

import population
from chat_api import context
from dbkeep import postgresql
from dbkeep.postgresql import Declared
from dbkeep.sandbox import postgresql as sandbox
from queries import QUERIES, Query

Session = psycopg.Connection[tuple[Any, ...]]
Values = dict[str, Any]

PLACEHOLDER = re.compile(r"%\((\w+)\)[sb]")
ROWS_BY_INDEX = ("Index Scan", "Index Only Scan", "Bitmap Heap Scan")
SEQUENTIAL = """
SELECT relname, seq_scan FROM pg_stat_xact_user_tables
WHERE schemaname = 'chat' AND relname <> 'context_keys' AND seq_scan > 0
"""


BLOCKING = 300
# Users far from those that the queries are about block the one who asks.
BLOCKS = """
INSERT INTO chat.relationships (id, user_id, related_user_id, type, status)
SELECT gen_random_uuid(), users.id, %(me)s, 'blocked', 'accepted' FROM chat.users
WHERE NOT EXISTS (SELECT FROM chat.relationships r WHERE user_id = users.id AND related_user_id = %(me)s)
    AND users.id <> ALL (%(others)s || ARRAY[%(me)s, %(friend)s, %(requester)s])
ORDER BY id DESC LIMIT %(blocks)s
"""
ROWS_VISITED = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'chat.relationships'::regclass"


@pytest.fixture(
    scope="module", params=[50_000, pytest.param(1_000_000, marks=pytest.mark.long)], ids=["50,000", "1,000,000"]
)
def filled(
    request: pytest.FixtureRequest, servers: Path, declared: Declared, secrets: dict[str, str]
) -> Iterator[tuple[Session, Values]]:
    """A session of app_api before so many users and four times as many relationships, and what to ask there."""
    users = int(request.param)
    with sandbox.start(servers / f"filled-{users}", options={"max_wal_size": "4GB"}) as settings:
        postgresql.apply(settings, declared, secrets)
        reach: dict[str, Any] = {
            "host": str(settings.socket_directory),
            "port": settings.port,
            "dbname": "chat",
            "autocommit": True,
        }
        with psycopg.connect(user="postgres", **reach) as administrator:
            population.fill(administrator, users)
            values = _values(administrator, users)
            administrator.execute(BLOCKS, values | {"blocks": BLOCKING})
        # The load drops indexes and constraints and makes them again: the same ones, or this would prove nothing.
        assert list(postgresql.plan(settings, declared, secrets)) == []
        with psycopg.connect(user="app_api", **reach) as session:
            yield session, values


def _values(administrator: Session, users: int) -> Values:
    """The parameters of the queries, for one user of the load."""

    def user(number: int) -> UUID:
        name = f"user-{number % users}"
        found = administrator.execute("SELECT id FROM chat.users WHERE username = %s", [name]).fetchone()
        assert found is not None
        return UUID(str(found[0]))

    me = 20
    return {
        "me": user(me), "id": uuid4(), "other": user(me + 1), "others": [user(me + n) for n in range(1, 11)],
        "name": f"user-{me + 1}", "friend": user(me + users // 97 + 1), "requester": user(me - users // 7 - 3),
        "most": 500, "key": "setting.s1", "value": Jsonb("x"), "bio": "x",
    }  # fmt: skip


@pytest.mark.parametrize("query", QUERIES, ids=[query.name for query in QUERIES])
@pytest.mark.parametrize("generic", [False, True], ids=["custom plan", "generic plan"])
def test_a_query_uses_an_index(filled: tuple[Session, Values], query: Query, generic: bool) -> None:
    session, values = filled
    mode = f"force_{'generic' if generic else 'custom'}_plan"
    with session.transaction(force_rollback=True):
        session.execute("SELECT set_config('app.user_id', %s, true)", [context.plain(values["me"])])
        session.execute("SELECT set_config('plan_cache_mode', %s, true)", [mode])
        nodes = list(_nodes(_explain(session, query.secured, values)))
        assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == []
        tables = {node["Relation Name"] for node in nodes if "Relation Name" in node and "Scan" in node["Node Type"]}
        indexed = {node["Relation Name"] for node in nodes if node["Node Type"] in ROWS_BY_INDEX}
        assert tables == indexed
        # EXPLAIN does not look into functions; what the transaction has done in all is counted here.
        assert session.execute(SEQUENTIAL).fetchall() == []


def _explain(session: Session, text: str, values: Values) -> dict[str, Any]:
    """The plan of a prepared statement, as plan_cache_mode makes it, after running it."""
    names = list(dict.fromkeys(PLACEHOLDER.findall(text)))
    session.execute(f"PREPARE it AS {PLACEHOLDER.sub(lambda found: f'${names.index(found[1]) + 1}', text)}".encode())
    literals = sql.SQL(", ").join(sql.Literal(values[name]) for name in names)
    execute = sql.SQL("EXECUTE it ({})").format(literals) if names else sql.SQL("EXECUTE it")
    explained = session.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}").format(execute)).fetchone()
    session.execute("DEALLOCATE it")
    assert explained is not None
    plan: dict[str, Any] = explained[0][0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


@pytest.mark.parametrize("query", ["find user", "visible among ten", "another's profile"])
def test_whether_one_blocks_costs_the_same_however_many_do(filled: tuple[Session, Values], query: str) -> None:
    """Else the time of an answer would tell how many block the one who asks."""
    session, values = filled
    (asked,) = (known for known in QUERIES if known.name == query)
    with session.transaction(force_rollback=True):
        session.execute("SELECT set_config('app.user_id', %s, true)", [context.plain(values["me"])])
        ((before,),) = session.execute(ROWS_VISITED).fetchall()
        assert session.execute(asked.secured.encode(), values).rowcount > 0
        ((after,),) = session.execute(ROWS_VISITED).fetchall()
        assert after - before < BLOCKING / 10


def test_the_values_are_those_of_a_user_with_rows(filled: tuple[Session, Values]) -> None:
    """A plan for nobody would prove nothing: the queries find what the load has made."""
    session, values = filled
    with session.transaction(force_rollback=True):
        session.execute("SELECT set_config('app.user_id', %s, true)", [context.plain(values["me"])])
        found = {query.name: session.execute(query.secured.encode(), values).rowcount for query in QUERIES}
    assert (found["own profile"], found["another's profile"], found["relationships"]) == (1, 1, 7)
    assert found["settings"] == population.SETTINGS_EACH
