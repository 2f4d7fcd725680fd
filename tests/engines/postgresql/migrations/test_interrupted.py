"""Migrations that are killed or fail half-way: nothing is left, and a rerun converges."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from dbkeep import postgresql
from dbkeep.errors import DbkeepError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared
from dbkeep.postgresql.migrations import history, patience
from dbkeep.settings import PostgreSQLSettings

from .conftest import Session, exists, open_session, recorded, states, wait_for, with_migration

UP = """
import json, sys
from dbkeep.postgresql import Declared
from dbkeep.postgresql.migrations import history
from dbkeep.settings import PostgreSQLSettings
settings, declared = json.load(sys.stdin)
history.up(PostgreSQLSettings(**settings), Declared.model_validate(declared))
"""


def kill_up_when(server: PostgreSQLSettings, declared: Declared, query: str) -> None:
    """Run `up` in a process of its own and kill it when `query` finds a row."""
    payload = f"[{server.model_dump_json()}, {declared.model_dump_json()}]".encode()
    with subprocess.Popen([sys.executable, "-c", UP], stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(payload)
        process.stdin.close()
        wait_for(server, query)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_killed_in_the_middle_of_a_migration(
    server: PostgreSQLSettings, declared: Declared, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.nap AS SELECT 600 AS seconds")
    session.execute("GRANT USAGE ON SCHEMA elsewhere TO chat_owner; GRANT SELECT ON elsewhere.nap TO chat_owner")
    napping = with_migration(
        declared,
        "0099_nap",
        "CREATE TABLE chat.half (id int);\nSELECT pg_sleep(seconds) FROM elsewhere.nap;\n",
        "DROP TABLE chat.half;\n",
    )
    kill_up_when(server, napping, "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    assert not exists(session, "chat.half")
    assert states(server, napping)["0099_nap"] == "pending"
    session.execute("UPDATE elsewhere.nap SET seconds = 0")
    # The server notices within a second that the killed migrator is gone; what it holds is waited for.
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.5)
    assert [change.target for change in history.up(server, napping)] == ["0099_nap"]
    assert recorded(session, "0099_nap") == (1, 1, 1)
    session.execute("DROP SCHEMA elsewhere CASCADE")


def test_killed_while_an_index_is_built(
    server: PostgreSQLSettings, indexed: Declared, secrets: dict[str, str], session: Session
) -> None:
    """The build waits for an older transaction, its index invalid, when it is killed."""
    invalid = "SELECT FROM pg_index WHERE indexrelid = to_regclass('chat.users_probe') AND NOT indisvalid"
    with open_session(server) as older:
        older.execute("BEGIN; LOCK TABLE chat.users IN ROW EXCLUSIVE MODE")
        waiting = "SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE UNIQUE INDEX%' AND wait_event_type = 'Lock'"
        kill_up_when(server, indexed, waiting)
        assert session.execute(invalid).fetchone() == ()
        older.execute("COMMIT")
    wait_for(server, "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE UNIQUE INDEX%'"
                     " AND pid <> pg_backend_pid())")  # fmt: skip
    assert states(server, indexed)["0099_probe"] == "pending"
    named = {(change.kind, change.target) for change in postgresql.plan(server, indexed, secrets)}
    assert ("migration", "0099_probe") in named
    assert [change.target for change in history.up(server, indexed)] == ["0099_probe"]
    assert session.execute(invalid).fetchone() is None
    assert list(postgresql.plan(server, indexed, secrets)) == []
    history.down(server, indexed, allow_destructive=True)
    assert not exists(session, "chat.users_probe")
    assert recorded(session, "0099_probe") == (0, 0, 0)


def test_apply_drops_an_interrupted_index_and_builds_it(
    server: PostgreSQLSettings, indexed: Declared, secrets: dict[str, str], session: Session
) -> None:
    session.execute("CREATE INDEX users_probe ON chat.users (id)")
    session.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chat.users_probe'::regclass")
    done = [(change.kind, change.target) for change in postgresql.apply(server, indexed, secrets)]
    assert done == [("index", "chat.users: users_probe"), ("migration", "0099_probe")]
    assert list(postgresql.plan(server, indexed, secrets)) == []


def test_a_build_that_fails_leaves_no_index(server: PostgreSQLSettings, indexed: Declared, session: Session) -> None:
    for number in (1, 2):
        session.execute(
            "INSERT INTO chat.users (id, email, email_index, username, password_hash, created_at)"
            " VALUES (gen_random_uuid(), 'x', decode(repeat(%s, 32), 'hex'), %s, '$argon2id$x', '2026-01-01')",
            [f"0{number}", str(number)],
        )
    with pytest.raises(ApplyError, match=r"0099_probe.sql: could not create unique index"):
        history.up(server, indexed)
    assert not exists(session, "chat.users_probe")
    assert recorded(session, "0099_probe") == (0, 0, 0)


def test_lost_connection_is_one_line(server: PostgreSQLSettings, declared: Declared) -> None:
    suicide = with_migration(declared, "0099_end", "SELECT pg_terminate_backend(pg_backend_pid());\n", "SELECT 1;\n")
    with pytest.raises(DbkeepError) as caught:
        history.up(server, suicide)
    assert "\n" not in str(caught.value)
    assert states(server, suicide)["0099_end"] == "pending"
