"""Row-level security, tried as the real roles over real connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

Session = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Session]
Register = Callable[[str], UUID]
ActFor = Callable[[Session, UUID], None]

API_TABLES = ("users", "profiles", "relationships", "settings")
NO_USERS = [UUID(int=0), uuid4()]


def _rows(session: Session, table: str) -> int:
    found = session.execute(f"SELECT count(*) FROM chat.{table}".encode()).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.usefixtures("bob")
@pytest.mark.parametrize("user", [None, "", *NO_USERS], ids=["unset", "empty", "zero", "unknown"])
def test_without_a_user_there_are_no_rows(acting: Any, alice: UUID, user: UUID | str | None) -> None:
    with acting(user) as session:
        assert {table: _rows(session, table) for table in API_TABLES} == dict.fromkeys(API_TABLES, 0)
        assert session.execute("SELECT chat.can_see(%s)", [alice]).fetchone() == (False,)
        assert session.execute("SELECT chat.visible_among(%s)", [[alice]]).fetchall() == []


def test_a_malformed_user_is_an_error_and_no_row(acting: Any) -> None:
    refusals = (psycopg.errors.InvalidTextRepresentation, psycopg.errors.InsufficientPrivilege)
    with pytest.raises(refusals), acting("' OR true --") as session:
        _rows(session, "profiles")


def test_a_deactivated_user_sees_nothing_and_is_seen_by_nobody(
    acting: Any, register: Register, connect: Connect, act_for: ActFor
) -> None:
    gone, other = register("gone"), register("other")
    with connect("app_api") as session, session.transaction():
        act_for(session, gone)
        session.execute("SELECT chat.deactivate_oneself()")
        with pytest.raises(psycopg.errors.NoDataFound), session.transaction():
            session.execute("SELECT chat.deactivate_oneself()")
    with acting(gone) as session:
        assert [_rows(session, table) for table in API_TABLES] == [0, 0, 0, 0]
    with acting(other) as session:
        assert session.execute("SELECT FROM chat.profiles WHERE user_id = %s", [gone]).fetchall() == []


def test_the_user_ends_with_the_transaction(connect: Connect, alice: UUID, act_for: ActFor) -> None:
    with connect("app_api") as session:
        with session.transaction():
            act_for(session, alice)
            assert _rows(session, "users") == 1
        assert session.execute("SELECT current_setting('app.user_id', true)").fetchone() == ("",)
        assert [_rows(session, table) for table in API_TABLES] == [0, 0, 0, 0]


def test_a_user_sees_and_changes_its_own_only(acting: Any, act_for: ActFor, alice: UUID, bob: UUID) -> None:
    with acting(alice) as session:
        assert session.execute("SELECT id FROM chat.users").fetchall() == [(alice,)]
        assert session.execute("SELECT FROM chat.profiles WHERE user_id = %s", [bob]).rowcount == 1
        assert session.execute("UPDATE chat.profiles SET bio = 'mine'").rowcount == 1
        session.execute(
            "INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, 'k', '1')", [uuid4(), alice]
        )
        upsert = (
            "INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, 'k', '2')"
            " ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value"
        )
        assert session.execute(upsert, [uuid4(), alice]).rowcount == 1
        act_for(session, bob)
        assert _rows(session, "settings") == 0
        assert session.execute("UPDATE chat.settings SET value = '3'").rowcount == 0


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO chat.settings (id, user_id, key, value) VALUES (gen_random_uuid(), %(bob)s, 'k', '1')",
        "UPDATE chat.settings SET user_id = %(bob)s",
        "UPDATE chat.users SET is_verified = true",
        "UPDATE chat.users SET is_active = true",
        "UPDATE chat.users SET is_active = false",
        "INSERT INTO chat.relationships VALUES (gen_random_uuid(), %(alice)s, %(bob)s, 'friend', 'accepted')",
        "UPDATE chat.relationships SET status = 'accepted'",
        "DELETE FROM chat.relationships",
        "SELECT FROM chat.context_keys",
        "SELECT chat.lock_pair(%(alice)s, %(bob)s)",
        "SELECT password_hash FROM chat.users",
        "SELECT email FROM chat.users",
        "SELECT * FROM chat.users",
        "SELECT FROM chat.refresh_tokens",
        "DELETE FROM chat.users",
        "TRUNCATE chat.settings",
        "SET ROLE chat_owner",
        "SELECT FROM report.user_totals",
        "SELECT lo_creat(-1)",
        "CREATE TEMPORARY TABLE t (id int)",
    ],
)
def test_the_api_role_is_refused(acting: Any, alice: UUID, bob: UUID, statement: str) -> None:
    with acting(alice) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(statement.encode(), {"alice": alice, "bob": bob})


def test_tokens_belong_to_auth_and_never_come_back(connect: Connect, alice: UUID) -> None:
    token = uuid4().hex * 2
    with connect("app_auth") as session, session.transaction(force_rollback=True):
        session.execute(
            "INSERT INTO chat.refresh_tokens (id, user_id, family_id, token, expires_at)"
            " VALUES (%s, %s, %s, %s, now() + interval '1 day')",
            [uuid4(), alice, uuid4(), token],
        )
        revoke = "UPDATE chat.refresh_tokens SET revoked = true, revoked_at = now() WHERE token = %s"
        assert session.execute(revoke, [token]).rowcount == 1
        revive = "UPDATE chat.refresh_tokens SET revoked = false, revoked_at = NULL WHERE token = %s"
        assert session.execute(revive, [token]).rowcount == 0
        assert session.execute("DELETE FROM chat.refresh_tokens WHERE token = %s", [token]).rowcount == 0


@pytest.mark.parametrize("role", ["chat_analytics", "chat_monitor", "chat_audit", "chat_migrator"])
@pytest.mark.parametrize("table", [*API_TABLES, "refresh_tokens", "context_keys"])
def test_other_roles_do_not_reach_the_tables(connect: Connect, role: str, table: str) -> None:
    with connect(role) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        _rows(session, table)


@pytest.mark.usefixtures("alice")
def test_analytics_reads_reports(connect: Connect) -> None:
    with connect("chat_analytics") as session:
        totals = session.execute("SELECT sum(users) FROM report.user_totals").fetchone()
        assert totals is not None
        assert totals[0] >= 1
        assert session.execute("SELECT FROM report.registrations_per_day").rowcount == 1


@pytest.mark.usefixtures("alice", "bob")
def test_backup_reads_every_row_and_writes_none(connect: Connect) -> None:
    with connect("chat_backup") as session:
        assert _rows(session, "users") >= 2
        session.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("DELETE FROM chat.users")


@pytest.mark.usefixtures("alice")
def test_even_the_owner_sees_no_row(connect: Connect) -> None:
    with connect("chat_migrator") as session:
        session.execute("SET ROLE chat_owner")
        assert _rows(session, "users") == 0


def test_updated_at_is_kept_by_the_database(connect: Connect, alice: UUID, act_for: ActFor) -> None:
    with connect("app_api") as session:
        with session.transaction():
            act_for(session, alice)
            session.execute("UPDATE chat.profiles SET bio = 'x' WHERE user_id = %s", [alice])
        with session.transaction():
            act_for(session, alice)
            newer = session.execute("SELECT updated_at > created_at FROM chat.profiles WHERE user_id = %s", [alice])
            assert newer.fetchone() == (True,)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE chat.users SET email = 'a@example.org'", "users_email_is_no_address"),
        ("UPDATE chat.users SET password_hash = 'secret'", "users_password_hash_is_argon2id"),
        ("UPDATE chat.users SET email_index = 'x'", "users_email_index_is_hmac_sha256"),
        ("UPDATE chat.profiles SET avatar_url = 'http://example.org'", "profiles_avatar_url_is_https"),
    ],
)
@pytest.mark.usefixtures("alice")
def test_the_database_refuses_what_must_not_be_stored(connect: Connect, statement: str, constraint: str) -> None:
    with connect() as session, pytest.raises(psycopg.errors.CheckViolation) as caught:
        session.execute(statement.encode())
    assert caught.value.diag.constraint_name == constraint


SPY = """
CREATE FUNCTION pg_temp.spy(pg_catalog.uuid) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (pg_temp.spy(VALUE));
"""


@pytest.mark.parametrize("call", ["can_see(%(id)s)", "find_user('x')", "answer_friendship(%(id)s, true)"])
def test_temporary_types_do_not_get_into_definer_functions(
    connect: Connect, act_for: ActFor, alice: UUID, call: str
) -> None:
    """Nobody may make temporary objects here; if somebody could, what they do would still not run as the definer."""
    with connect() as administrator:
        administrator.execute("GRANT TEMPORARY ON DATABASE chat TO app_api; GRANT USAGE ON LANGUAGE plpgsql TO app_api")
    try:
        with connect("app_api") as session, session.transaction(force_rollback=True):
            act_for(session, alice)
            session.execute(SPY.encode())
            with suppress(psycopg.errors.NoDataFound):
                session.execute(f"SELECT chat.{call}".encode(), {"id": uuid4()})
    finally:
        with connect() as administrator:
            administrator.execute(
                "REVOKE TEMPORARY ON DATABASE chat FROM app_api; REVOKE USAGE ON LANGUAGE plpgsql FROM app_api"
            )
