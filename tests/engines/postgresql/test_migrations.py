"""Migrations up and down: repeated, raced, locked out and killed, on a server of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbkeep import postgresql
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared, history, patience, shape
from dbkeep.postgresql.models import Migration
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

Session = psycopg.Connection[tuple[Any, ...]]
UP = """
import json, sys
from dbkeep.postgresql import Declared, history
from dbkeep.settings import PostgreSQLSettings
settings, declared = json.load(sys.stdin)
history.up(PostgreSQLSettings(**settings), Declared.model_validate(declared))
"""


@pytest.fixture(scope="module")
def ours(servers: Path) -> Iterator[PostgreSQLSettings]:
    with sandbox.start(servers / "migrations") as settings:
        yield settings


@pytest.fixture
def server(
    ours: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> PostgreSQLSettings:
    """The server as declared, before each test; the waits between attempts are short."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    with postgresql.connect(ours, "postgres") as connection:
        connection.execute("DROP DATABASE IF EXISTS chat WITH (FORCE)")
    postgresql.apply(ours, declared, secrets)
    return ours


@pytest.fixture
def session(server: PostgreSQLSettings) -> Iterator[Session]:
    with open_session(server) as found:
        yield found


def open_session(server: PostgreSQLSettings) -> Session:
    return psycopg.connect(
        host=str(server.socket_directory), port=server.port, user="postgres", dbname="chat", autocommit=True
    )


def with_migration(declared: Declared, name: str, sql: str, rollback: str) -> Declared:
    new = Migration(id=name, path=f"sql/migrations/{name}.sql", sql=sql, rollback=rollback)
    return declared.model_copy(update={"migrations": (*declared.migrations, new)})


@pytest.fixture
def grown(declared: Declared) -> Declared:
    """One more migration: a table and a column."""
    return with_migration(
        declared,
        "0099_notes",
        "CREATE TABLE chat.notes (id int PRIMARY KEY, text text);\nALTER TABLE chat.users ADD COLUMN nick text;\n",
        "ALTER TABLE chat.users DROP COLUMN nick;\nDROP TABLE chat.notes;\n",
    )


@pytest.fixture
def indexed(declared: Declared) -> Declared:
    """One more migration: an index built outside a transaction."""
    return with_migration(
        declared,
        "0099_probe",
        "-- transactional: false\n\nCREATE UNIQUE INDEX CONCURRENTLY users_probe ON chat.users (created_at);\n",
        "DROP INDEX CONCURRENTLY IF EXISTS chat.users_probe;\n",
    )


def states(server: PostgreSQLSettings, declared: Declared) -> dict[str, str]:
    return {entry.id: entry.state for entry in history.status(server, declared)}


def live(server: PostgreSQLSettings) -> shape.Shape:
    with postgresql.connect(server) as connection:
        return shape.live(connection, ["chat"])


def exists(session: Session, name: str) -> bool:
    return session.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() == (True,)


def recorded(session: Session, migration: str) -> tuple[int, int, int]:
    """Rows about a migration in yoyo's table, among the digests, among the shapes."""
    counts = [
        session.execute(f"SELECT count(*) FROM migration.{table} WHERE migration_id = %s", [migration]).fetchone()
        for table in ("_yoyo_migration", "digest", "shape")
    ]
    first, second, third = [count[0] for count in counts if count]
    return first, second, third


def test_up_down_and_up_again(server: PostgreSQLSettings, grown: Declared, session: Session) -> None:
    before = live(server)
    assert states(server, grown)["0099_notes"] == "pending"
    assert [change.target for change in history.up(server, grown)] == ["0099_notes"]
    assert states(server, grown)["0099_notes"] == "applied"
    assert history.up(server, grown) == ()
    made = live(server)
    assert {at for at in shape.differences(before, made) if at[0] == "chat.users"} == {
        ("chat.users", ("column", "nick"))
    }
    session.execute("INSERT INTO chat.notes SELECT n FROM generate_series(1, 3) n")
    done, held = history.down(server, grown)
    assert done == ()
    assert [change.summary for change in held] == ["take back: removes chat.notes (3 rows), chat.users.nick (0 values)"]
    assert live(server) == made
    assert recorded(session, "0099_notes") == (1, 1, 1)
    done, held = history.down(server, grown, allow_destructive=True)
    assert [change.target for change in done] == ["0099_notes"]
    assert live(server) == before
    assert recorded(session, "0099_notes") == (0, 0, 0)
    history.up(server, grown)
    assert live(server) == made


def test_every_migration_can_be_taken_back_and_comes_again(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]
) -> None:
    before = live(server)
    done, _ = history.down(server, declared, to="0001_users", allow_destructive=True)
    assert [change.target for change in done] == [m.id for m in reversed(declared.migrations[1:])]
    (relationships,) = [change for change in done if change.target == "0003_relationships"]
    assert relationships.summary == "take back: removes chat.relationships (0 rows), view report.relationship_totals"
    assert set(live(server)) == {"chat.users"}
    done, _ = history.down(server, declared, allow_destructive=True)
    assert [change.target for change in done] == ["0001_users"]
    assert live(server) == {}
    assert history.down(server, declared, allow_destructive=True) == ((), ())
    assert [c.target for c in history.up(server, declared, to="0003_relationships")] == [
        m.id for m in declared.migrations[:3]
    ]
    postgresql.apply(server, declared, secrets)
    assert live(server) == before
    assert list(postgresql.plan(server, declared, secrets)) == []


def test_rollback_that_leaves_something_is_refused(
    server: PostgreSQLSettings, declared: Declared, session: Session
) -> None:
    sloppy = with_migration(
        declared, "0099_notes",
        "CREATE TABLE chat.notes (id int);\nALTER TABLE chat.users ADD COLUMN nick text;\n", "DROP TABLE chat.notes;\n",
    )  # fmt: skip
    history.up(server, sloppy)
    with pytest.raises(ApplyError, match=r"0099_notes: its rollback script leaves chat.users: column nick other than"):
        history.down(server, sloppy, allow_destructive=True)
    assert exists(session, "chat.notes")
    assert recorded(session, "0099_notes") == (1, 1, 1)


@pytest.mark.parametrize(
    ("edit", "state", "message"),
    [
        ({"sql": "SELECT 1;\n"}, "edited", "{}.sql was edited after it was applied"),
        (None, "missing", "{}: it was applied and its file is missing"),
    ],
)
def test_edited_and_missing_files_are_refused_both_ways(
    server: PostgreSQLSettings, declared: Declared, edit: dict[str, str] | None, state: str, message: str
) -> None:
    *kept, last = declared.migrations
    changed = declared.model_copy(update={"migrations": (*kept, last.model_copy(update=edit)) if edit else tuple(kept)})
    assert states(server, changed)[last.id] == state
    for target in (None, "0001_users"):
        with pytest.raises(ApplyError, match=message.format(last.id)):
            history.up(server, changed, to=target)
    with pytest.raises(UsageError, match=f"migration {last.id} is {state}: use the checkout"):
        history.down(server, changed, allow_destructive=True)


def test_targets_that_are_not_there(server: PostgreSQLSettings, declared: Declared, grown: Declared) -> None:
    with pytest.raises(UsageError, match=f"no migration '9_x': the newest is {declared.migrations[-1].id}"):
        history.up(server, declared, to="9_x")
    with pytest.raises(UsageError, match="0099_notes is not applied"):
        history.down(server, grown, to="0099_notes")


def test_a_lock_that_is_freed_is_waited_for(
    server: PostgreSQLSettings, grown: Declared, session: Session,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    session.execute("BEGIN; LOCK TABLE chat.users IN ACCESS SHARE MODE")
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            session.execute("COMMIT")

    monkeypatch.setattr("dbkeep.postgresql.patience.time.sleep", sleep)
    assert [change.target for change in history.up(server, grown)] == ["0099_notes"]
    assert len(pauses) == 2
    said = [record.message for record in caplog.records]
    assert "0099_notes: canceling statement due to lock timeout: trying again in 0.0 s (attempt 1 of 8)" in said


def test_a_lock_that_is_not_freed_leaves_nothing_done(
    server: PostgreSQLSettings, grown: Declared, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ATTEMPTS", 3)
    before = live(server)
    session.execute("BEGIN; LOCK TABLE chat.users IN ACCESS SHARE MODE")
    with pytest.raises(ApplyError, match=r"0099_notes.sql: canceling statement due to lock timeout, again and again"):
        history.up(server, grown)
    assert not exists(session, "chat.notes")
    assert recorded(session, "0099_notes") == (0, 0, 0)
    assert live(server) == before
    session.execute("COMMIT")
    history.up(server, grown)


def test_users_do_not_wait_behind_a_waiting_migration(
    server: PostgreSQLSettings, grown: Declared, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long report keeps the migration out; who reads meanwhile waits less than the application's lock_timeout."""
    monkeypatch.setattr(patience, "ATTEMPTS", 3)
    session.execute("BEGIN; LOCK TABLE chat.users IN ACCESS SHARE MODE")
    with open_session(server) as user, ThreadPoolExecutor(1) as pool:
        user.execute("SET lock_timeout = '2s'")
        migrator = pool.submit(history.up, server, grown)
        waited = 0
        while not migrator.done():
            queued = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'chat.users'::regclass"
            row = session.execute(queued).fetchone()
            waited += row[0] if row else 0
            user.execute("SELECT count(*) FROM chat.users")
        assert waited
        with pytest.raises(ApplyError, match="again and again"):
            migrator.result()


def test_a_deadlock_is_tried_again(
    server: PostgreSQLSettings, declared: Declared, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    """The other session holds profiles and asks for users, the migration the other way round."""
    ours = with_migration(
        declared, "0099_two",
        "ALTER TABLE chat.users ADD a int;\nSELECT pg_sleep(0.5);\nALTER TABLE chat.profiles ADD a int;\n",
        "ALTER TABLE chat.users DROP a;\nALTER TABLE chat.profiles DROP a;\n",
    )  # fmt: skip
    session.execute("SET deadlock_timeout = '1min'")
    session.execute("ALTER SYSTEM SET deadlock_timeout = '100ms'")
    session.execute("SELECT pg_reload_conf()")
    session.execute("BEGIN; LOCK TABLE chat.profiles IN ROW EXCLUSIVE MODE")
    with ThreadPoolExecutor(1) as pool:
        migrator = pool.submit(history.up, server, ours)
        wait_for(server, "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        session.execute("LOCK TABLE chat.users IN ROW EXCLUSIVE MODE")
        session.execute("COMMIT")
        assert [change.target for change in migrator.result()] == ["0099_two"]
    assert "deadlock detected" in caplog.text
    with open_session(server) as other:
        other.execute("ALTER SYSTEM RESET deadlock_timeout")
        other.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(("seconds", "refused"), [(0.5, False), (4, True)])
def test_two_migrators_at_once(
    server: PostgreSQLSettings, declared: Declared, session: Session, seconds: float, refused: bool
) -> None:
    slow = with_migration(
        declared,
        "0099_slow",
        f"CREATE TABLE chat.slow (id int);\nSELECT pg_sleep({seconds});\n",
        "DROP TABLE chat.slow;\n",
    )

    def up() -> tuple[str, ...]:
        try:
            return tuple(change.target for change in history.up(server, slow))
        except UsageError as error:
            return (str(error),)

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(up), pool.submit(up)]]
    assert ("0099_slow",) in results
    results.remove(("0099_slow",))
    assert ("another apply is running" in str(results)) is refused
    assert results == [()] or refused
    assert recorded(session, "0099_slow") == (1, 1, 1)


def wait_for(server: PostgreSQLSettings, query: str) -> None:
    """Wait until `query` finds a row; the test's own time limit ends a wait in vain."""
    with open_session(server) as watcher:
        while watcher.execute(query).fetchone() is None:
            time.sleep(0.05)


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


def test_a_migration_on_a_drifted_table_is_refused(
    server: PostgreSQLSettings, grown: Declared, secrets: dict[str, str], session: Session
) -> None:
    session.execute("ALTER TABLE chat.profiles ADD COLUMN by_hand int")
    refused = r"chat.profiles: column by_hand is not as migrations made it: mend it with `dbkeep apply postgresql`"
    with pytest.raises(ApplyError, match=refused):
        history.up(server, grown)
    with pytest.raises(ApplyError, match=refused):
        postgresql.apply(server, grown, secrets)
    with pytest.raises(ApplyError, match=refused):
        history.down(server, grown, allow_destructive=True)
    assert not exists(session, "chat.notes")
    postgresql.apply(server, grown, secrets, allow_destructive=True)
    assert exists(session, "chat.notes")


def test_no_shape_is_no_ground_for_a_migration(server: PostgreSQLSettings, grown: Declared, session: Session) -> None:
    session.execute("DROP TABLE migration.shape")
    assert [(c.kind, c.target) for c in history.up(server, grown)] == [
        ("shape", grown.migrations[-2].id),
        ("migration", "0099_notes"),
    ]
    _, held = history.down(server, grown, to="0004_settings")
    assert [change.summary for change in held][:2] == [
        "take back: removes chat.notes (0 rows), chat.users.nick (0 values)",
        "take back: removes what its script names (it was applied before shapes were recorded)",
    ]
    history.down(server, grown, to="0004_settings", allow_destructive=True)
    assert not exists(session, "chat.refresh_tokens")


def test_another_major_version_is_recorded_again_only_when_nothing_else_differs(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], session: Session
) -> None:
    session.execute(
        "UPDATE migration.shape SET server_version = 140000, tables = replace(tables::text, '::text', '')::jsonb"
    )
    (change,) = postgresql.plan(server, declared, secrets)
    assert (change.kind, change.target) == ("shape", declared.migrations[-1].id)
    session.execute("ALTER TABLE chat.users DISABLE TRIGGER users_set_updated_at")
    (change,) = postgresql.plan(server, declared, secrets)
    assert (change.kind, change.target) == ("trigger", "chat.users: users_set_updated_at")
    postgresql.apply(server, declared, secrets)
    assert [change.kind for change in postgresql.apply(server, declared, secrets)] == ["shape"]
    assert list(postgresql.plan(server, declared, secrets)) == []


def test_lost_connection_is_one_line(server: PostgreSQLSettings, declared: Declared) -> None:
    suicide = with_migration(declared, "0099_end", "SELECT pg_terminate_backend(pg_backend_pid());\n", "SELECT 1;\n")
    with pytest.raises(DbkeepError) as caught:
        history.up(server, suicide)
    assert "\n" not in str(caught.value)
    assert states(server, suicide)["0099_end"] == "pending"
