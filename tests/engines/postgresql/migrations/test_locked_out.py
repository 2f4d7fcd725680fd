"""Migrations that other sessions are in the way of: waited for, tried again, given up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from dbkeep.errors import UsageError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared
from dbkeep.postgresql.migrations import history, patience
from dbkeep.settings import PostgreSQLSettings

from .conftest import Session, exists, live, open_session, recorded, wait_for, with_migration


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

    monkeypatch.setattr(patience, "time", SimpleNamespace(sleep=sleep))
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
            # The reader waits as long as the migration does, so whether that waits is asked before and for a while.
            for _ in range(20):
                row = session.execute(queued).fetchone()
                waited += row[0] if row else 0
                time.sleep(0.01)
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
