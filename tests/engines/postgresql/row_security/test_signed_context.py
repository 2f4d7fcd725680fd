"""What signed contexts are for: SQL that runs as app_api can act for nobody whose signature it was not given."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from chat_api.context import Signer, plain, signed
from dbkeep import postgresql
from dbkeep.errors import UsageError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared, context_keys
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import new_password
from dbkeep.settings import PostgreSQLSettings

Session = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Session]
Register = Callable[[str], UUID]

ROOT = Path(__file__).parents[4]
SIGNED = postgresql.read_declared(ROOT, context="signed")


@pytest.fixture(scope="session")
def connect(signed_server: PostgreSQLSettings, open_sessions: Callable[[PostgreSQLSettings], Connect]) -> Connect:
    """This file is about one of the two contexts."""
    return open_sessions(signed_server)


@pytest.fixture(scope="session")
def register(connect: Connect, registrar: Callable[[Connect], Register]) -> Register:
    return registrar(connect)


def _user(session: Session, value: str) -> UUID | None:
    """Whom a transaction with this context acts for."""
    with session.transaction():
        session.execute("SELECT set_config('app.user_id', %s, true)", [value])
        found = session.execute("SELECT chat.current_user_id()").fetchone()
    assert found is not None
    user: UUID | None = found[0]
    return user


# Made of what a session was given, in its five parts.
FORGERIES = {
    "plain": "{user}",
    "another user": "{other}.{pid}.{expiry}.{key}.{signature}",
    "later": "{user}.{pid}.9{expiry}.{key}.{signature}",
    "another session": "{user}.1{pid}.{expiry}.{key}.{signature}",
    "unknown key": "{user}.{pid}.{expiry}.2.{signature}",
    "no key": "{user}.{pid}.{expiry}..{signature}",
    "key that is no number": "{user}.{pid}.{expiry}.' OR true --.{signature}",
    "no signature": "{user}.{pid}.{expiry}.{key}",
    "empty signature": "{user}.{pid}.{expiry}.{key}.",
    "half a signature": "{user}.{pid}.{expiry}.{key}.{half}",
    "signed by nobody": "{user}.{pid}.{expiry}.{key}.{by_nobody}",
    "more parts": "{user}.{pid}.{expiry}.{key}.{signature}.{signature}",
    "fewer parts": "{user}.{signature}",
    "other text": "' OR true --",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_context_is_refused(connect: Connect, register: Register, signer: Signer, name: str) -> None:
    alice = register("alice")
    with connect("app_api") as session:
        good = signer.sign(alice, session.info.backend_pid)
        assert _user(session, good) == alice
        user, pid, expiry, key, signature = good.split(".")
        by_nobody = signed(alice, backend_pid=int(pid), key_id=1, key=bytes(32), expiry=int(expiry)).split(".")[-1]
        forged = FORGERIES[name].format(
            user=user, pid=pid, expiry=expiry, key=key, signature=signature,
            half=signature[:32], by_nobody=by_nobody, other=register("bob"),
        )  # fmt: skip
        statements = (
            "SELECT chat.current_user_id()",
            *(f"SELECT FROM chat.{table}" for table in ("users", "profiles", "relationships", "settings")),
            "SELECT chat.can_see(gen_random_uuid())",
            "SELECT chat.visible_among(ARRAY[gen_random_uuid()])",
            "SELECT chat.find_user('x')",
            "SELECT chat.request_friendship(gen_random_uuid(), gen_random_uuid())",
            "SELECT chat.answer_friendship(gen_random_uuid(), true)",
            "SELECT chat.block_user(gen_random_uuid(), gen_random_uuid())",
            "SELECT chat.end_relationship(gen_random_uuid())",
            "SELECT chat.deactivate_oneself()",
        )
        for statement in statements:
            with session.transaction(force_rollback=True):
                session.execute("SELECT set_config('app.user_id', %s, true)", [forged])
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"app\.user_id"):
                    session.execute(statement.encode())


def test_a_value_is_worth_nothing_in_another_session(connect: Connect, register: Register, signer: Signer) -> None:
    alice = register("alice")
    with connect("app_api") as one, connect("app_api") as other:
        stolen = signer.sign(alice, one.info.backend_pid)
        assert _user(one, stolen) == alice
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="signed for another session"):
            _user(other, stolen)


def test_a_value_expires_within_a_transaction(connect: Connect, signer: Signer) -> None:
    with connect("app_api") as session, session.transaction(force_rollback=True):
        pid, until = session.info.backend_pid, int(time.time()) + 1
        value = signed(uuid4(), backend_pid=pid, key_id=1, key=signer.keys.keys[1], expiry=until)
        session.execute("SELECT set_config('app.user_id', %s, true)", [value])
        session.execute("SELECT chat.current_user_id()")
        time.sleep(until - time.time() + 0.1)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="expired"):
            session.execute("SELECT chat.current_user_id()")


@pytest.mark.parametrize("role", [name for name, role in SIGNED.roles.items() if role.login and name != "chat_backup"])
def test_no_role_reads_a_key(connect: Connect, role: str) -> None:
    with connect(role) as session:
        for statement in (
            "SELECT FROM chat.context_keys",
            "COPY chat.context_keys TO STDOUT",
            "TABLE chat.context_keys",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement.encode())


def test_even_the_owner_of_the_table_sees_no_key(connect: Connect) -> None:
    with connect("chat_migrator") as session:
        session.execute("SET ROLE chat_owner")
        assert session.execute("SELECT FROM chat.context_keys").rowcount == 0


def test_nothing_that_app_api_may_call_signs(connect: Connect) -> None:
    """Whatever reads the keys verifies: there is one such function, and it gives back a user and no signature."""
    with connect() as session:
        found = session.execute(
            "SELECT proname::text, prorettype::regtype::text FROM pg_proc"
            " WHERE pronamespace = 'chat'::regnamespace AND prosrc LIKE '%context_keys%'"
        ).fetchall()
    assert found == [("current_user_id", "uuid")]


def test_keys_reach_neither_log_nor_statistics(
    connect: Connect, servers: Path, secrets: dict[str, str], signed_server: PostgreSQLSettings
) -> None:
    replaced = {**secrets, "context_key": new_password()}
    plan = postgresql.plan(signed_server, SIGNED, replaced)
    assert [(change.kind, change.target, change.summary) for change in plan] == [("context key", "1", "replace")]
    postgresql.apply(signed_server, SIGNED, replaced)
    postgresql.apply(signed_server, SIGNED, secrets)
    log = (servers / "signed" / "postgresql.log").read_text(encoding="utf-8", errors="replace")
    assert "context_keys" in log
    with connect() as session:
        running = str(session.execute("SELECT query FROM pg_stat_activity").fetchall())
    for secret in (replaced, secrets):
        (key,) = context_keys.keys(secret["context_key"]).keys.values()
        pads = context_keys.pads(key)
        for value in (secret["context_key"], key.hex(), pads.inner.hex(), pads.outer.hex()):
            assert value not in log + running + repr(plan) + str(plan.as_json())


def test_two_keys_are_valid_while_one_replaces_the_other(
    connect: Connect, secrets: dict[str, str], signed_server: PostgreSQLSettings
) -> None:
    old, new, user = secrets["context_key"], new_password(), uuid4()
    with connect("app_api") as session:

        def accepted(text: str) -> bool:
            try:
                return _user(session, Signer(context_keys.keys(text)).sign(user, session.info.backend_pid)) == user
            except psycopg.errors.InsufficientPrivilege:
                return False

        both, only_new = f"1:{old}\n2:{new}", f"2:{new}"
        assert (accepted(old), accepted(both)) == (True, False)
        postgresql.apply(signed_server, SIGNED, {**secrets, "context_key": both})
        assert (accepted(old), accepted(both)) == (True, True)
        postgresql.apply(signed_server, SIGNED, {**secrets, "context_key": only_new})
        assert (accepted(old), accepted(both)) == (False, True)
        postgresql.apply(signed_server, SIGNED, secrets)
        assert (accepted(old), accepted(both)) == (True, False)


def test_an_environment_changes_its_mind(
    servers: Path, declared: Declared, secrets: dict[str, str], signer: Signer
) -> None:
    """From plain to signed and back. A plain database takes signed values too, so the API can begin to sign before."""
    user = uuid4()
    with sandbox.start(servers / "changed") as settings:
        for state, takes_plain in ((declared, True), (SIGNED, False), (declared, True)):
            postgresql.apply(settings, state, secrets)
            assert list(postgresql.plan(settings, state, secrets)) == []
            with psycopg.connect(
                host=str(settings.socket_directory), port=settings.port, user="app_api", dbname="chat", autocommit=True
            ) as session:
                assert _user(session, signer.sign(user, session.info.backend_pid)) == user
                if takes_plain:
                    assert _user(session, plain(user)) == user
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        _user(session, plain(user))


def test_signed_without_a_key_is_refused(servers: Path, secrets: dict[str, str]) -> None:
    without = {name: value for name, value in secrets.items() if name != "context_key"}
    with sandbox.start(servers / "keyless") as settings:
        with pytest.raises(ApplyError, match=r"context key 1: .*dbkeep init"):
            postgresql.apply(settings, SIGNED, without)
        postgresql.apply(settings, SIGNED, secrets)
        assert list(postgresql.plan(settings, SIGNED, without)) == []


@pytest.mark.parametrize(
    "text", ["short", "1:" + "A" * 20, f"0:{'A' * 43}", f"x:{'A' * 43}", f"{'A' * 43}\n1:{'B' * 43}"]
)
def test_a_bad_key_is_named_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError, match=r"dbkeep_secrets\.postgresql\.context_key") as caught:
        context_keys.keys(text)
    assert not re.search("AAAA|short", str(caught.value))


def test_a_context_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match="postgresql_context is 'loose' in the inventory: it is plain or signed"):
        postgresql.read_declared(ROOT, context="loose")  # type: ignore[arg-type]  # what an inventory may say
