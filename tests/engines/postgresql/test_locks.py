"""What the remarks of `migrate sql` say of locks is what the server takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import psycopg
import pytest

from dbkeep.plan import Risk
from dbkeep.postgresql.migrations import locks

Connect = Callable[..., psycopg.Connection[tuple[Any, ...]]]
STATEMENTS = [
    "CREATE TABLE chat.t (id int)",
    "CREATE TABLE chat.t (id uuid REFERENCES chat.users (id))",
    "CREATE INDEX i ON chat.users (is_active)",
    "CREATE UNIQUE INDEX i ON chat.users (id)",
    "CREATE TRIGGER t BEFORE UPDATE ON chat.users FOR EACH ROW EXECUTE FUNCTION chat.set_updated_at()",
    "ALTER TABLE chat.users DISABLE TRIGGER users_set_updated_at",
    "ALTER TABLE chat.users ADD COLUMN c int",
    "ALTER TABLE chat.users ADD CONSTRAINT c CHECK (length(username) > 1) NOT VALID",
    "ALTER TABLE chat.users VALIDATE CONSTRAINT users_username_is_not_empty",
    "ALTER TABLE chat.users SET (fillfactor = 90)",
    "ALTER TABLE chat.users RESET (fillfactor)",
    "ALTER TABLE chat.profiles ADD CONSTRAINT c FOREIGN KEY (id) REFERENCES chat.users (id) NOT VALID",
    "ALTER TABLE chat.profiles ADD FOREIGN KEY (id) REFERENCES chat.users (id) NOT VALID",
    "ALTER TABLE chat.profiles ALTER COLUMN bio TYPE varchar(5000)",
    "DROP TRIGGER users_set_updated_at ON chat.users",
    "TRUNCATE chat.settings",
    "DROP TABLE chat.settings",
    "UPDATE chat.users SET is_verified = true",
    "INSERT INTO chat.settings (id, user_id, key, value) SELECT id, id, 'a', '1' FROM chat.users",
    "DELETE FROM chat.settings",
    "CREATE SCHEMA s",
]
TABLES = """
SELECT c.oid, n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'chat' AND c.relkind = 'r'
"""
HELD = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid()"
# Weaker ones hold up nobody and are not told.
TOLD = ["RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock", "ShareRowExclusiveLock", "AccessExclusiveLock"]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_remark_is_what_the_server_locks(connect: Connect, statement: str) -> None:
    (remark,) = locks.remarks(f"{statement};", "x.sql")
    with connect() as session, session.transaction(force_rollback=True):
        tables: dict[int, str] = dict(session.execute(TABLES).fetchall())
        session.execute(statement)
        strongest: dict[str, str] = {}
        for relation, mode in cast("Iterable[tuple[int, str]]", session.execute(HELD)):
            table = tables.get(relation)
            if table and mode in TOLD and TOLD.index(mode) >= TOLD.index(strongest.get(table, mode)):
                strongest[table] = mode
    if statement.startswith("DROP TABLE"):
        assert strongest.pop("chat.users") == "AccessExclusiveLock"
        assert "as on each table that it references" in remark.locks
    held = {f"{_spelled(mode)} on {table}" for table, mode in strongest.items()}
    assert {part.split(":")[0] for part in remark.locks.split("; ") if part != locks.NOTHING} == held


def _spelled(mode: str) -> str:
    """ShareRowExclusiveLock as LOCK TABLE spells it."""
    return re.sub(r"(?<!^)([A-Z])", r" \1", mode.removesuffix("Lock")).upper()


def test_what_a_script_makes_itself_holds_up_nobody() -> None:
    script = "CREATE TABLE chat.t (id int);\n\nCREATE INDEX i ON chat.t (id);\nALTER TABLE chat.u ADD c int;\n"
    found = list(locks.remarks(script, "x.sql"))
    assert [(remark.line, remark.locks == locks.NOTHING) for remark in found] == [(1, True), (3, True), (4, False)]


def test_the_risk_of_a_script_is_that_of_its_gravest_statement() -> None:
    for script, risk in (
        ("CREATE TABLE chat.t (id int);", Risk.SAFE),
        ("CREATE INDEX CONCURRENTLY i ON chat.users (id);", Risk.SAFE),
        ("CREATE TABLE chat.t (id int);\nDROP TRIGGER t ON chat.users;", Risk.LOCKING),
        ("ALTER TABLE chat.users ADD c int;\nALTER TABLE chat.users ALTER c TYPE bigint;", Risk.REWRITING),
    ):
        assert locks.risk(script, "x.sql") is risk


def test_concurrently_lets_reads_and_writes_go_on() -> None:
    build, drop = locks.remarks(
        "CREATE INDEX CONCURRENTLY i ON chat.users (id);\nDROP INDEX CONCURRENTLY IF EXISTS chat.i;\n", "x.sql"
    )
    assert build.locks == "SHARE UPDATE EXCLUSIVE on chat.users: reads and writes go on"
    assert drop.locks == "SHARE UPDATE EXCLUSIVE on the table of chat.i: reads and writes go on"
