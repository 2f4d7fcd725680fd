"""New keys for stored addresses on real servers: killed, beside log-ins, through every state of a ring."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from chat_api.encryption import Cell, DecryptionError, FieldCipher
from chat_api.identifiers import uuid7
from chat_api.key_ring import KeyRing

from .key_site import USERS, Site, busy, start, wait_for_lock


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with start() as made:
        yield made


def new_key() -> bytes:
    return secrets.token_bytes(32)


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on_beside_log_ins_and_registrations(site: Site) -> None:
    site.fill()
    site.roll()
    site.use(field_key=site.rings.field_key.with_pending(2, new_key()))
    with busy(site) as answers:
        site.roll()
        site.use(field_key=site.rings.field_key.promoted())
        site.roll()
        seen = []
        for batches in (1, 3, 2):
            assert site.reencrypt_killed(batches) == -9
            seen.append(site.survey()["values"].get("1", 0))
        result = site.reencrypt()
        answered = len(answers)
    # Each killed run left a part undone, smaller each time, and the last run did the rest and nothing twice.
    assert USERS > seen[0] > seen[1] > seen[2] > 0
    assert result["rewritten"] <= seen[2] < USERS
    assert result["unreadable"] == 0
    assert set(site.survey()["values"]) == {"2"}
    assert answered > 10
    assert set(answers) == {200}
    site.assert_all_current()


def test_it_changes_no_updated_at_and_nothing_of_a_current_value(site: Site) -> None:
    site.fill(50)
    site.use(field_key=site.rings.field_key.with_pending(3, new_key()).promoted())
    assert site.reencrypt()["rewritten"] == 50
    query = "SELECT id, email, xmin::text, updated_at FROM chat.users ORDER BY id"
    with site.connect() as connection:
        before = connection.execute(query).fetchall()
        assert site.reencrypt()["rewritten"] == 0
        assert connection.execute(query).fetchall() == before
        assert {row[3] for row in before} == {datetime.fromisoformat("2026-01-01T00:00:00+00:00")}
        connection.execute("UPDATE chat.users SET is_verified = true")
        assert connection.execute(
            "SELECT count(*) FROM chat.users WHERE updated_at < now() - '1d'::interval"
        ).fetchone() == (0,)


def test_a_value_that_changes_meanwhile_is_not_overwritten(site: Site) -> None:
    site.fill(1)
    site.use(field_key=site.rings.field_key.with_pending(4, new_key()).promoted())
    (user,) = site.addresses
    with site.connect() as holder:
        with holder.transaction():
            holder.execute("SELECT FROM chat.users WHERE id = %s FOR UPDATE", (user,))
            process = site.start_reencrypting()
            wait_for_lock(site, "app_keys", lambda: process.poll() is None)
            changed = FieldCipher(KeyRing({1: site.rings.field_key.keys[1]}))
            email = changed.encrypt("changed@example.org", Cell("users", "email", user))
            holder.execute("UPDATE chat.users SET email = %s WHERE id = %s", (email, user))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["rewritten"] == 1
    site.addresses[user] = "changed@example.org"
    site.assert_all_current()


def test_what_does_not_decrypt_is_named_and_left(site: Site) -> None:
    site.fill(20)
    site.use(field_key=site.rings.field_key.with_pending(5, new_key()).promoted())
    first, second, third = list(site.addresses)[:3]
    with site.connect() as connection:
        # Two accounts swap their values, a third has none.
        connection.execute(
            "UPDATE chat.users AS one SET email = other.email FROM chat.users AS other"
            " WHERE (one.id, other.id) IN ((%(a)s, %(b)s), (%(b)s, %(a)s))",
            {"a": first, "b": second},
        )
        connection.execute("UPDATE chat.users SET email = 'e1:77:x' WHERE id = %s", (third,))
        rows = dict(connection.execute("SELECT id, email FROM chat.users").fetchall())
    result = site.reencrypt()
    assert (result["rewritten"], result["unreadable"]) == (17, 3)
    assert set(result["rows"]) == {str(first), str(second), str(third)}
    with site.connect() as connection:
        after = dict(connection.execute("SELECT id, email FROM chat.users").fetchall())
    assert [after[user] for user in (first, second, third)] == [rows[user] for user in (first, second, third)]
    for user, other in ((first, second), (second, first)):
        with pytest.raises(DecryptionError):
            site.rings.cipher.decrypt(after[user], Cell("users", "email", user))
        assert site.rings.cipher.decrypt(after[user], Cell("users", "email", other)) == site.addresses[other]


@pytest.mark.long
def test_the_index_changes_without_a_moment_in_which_an_address_is_unknown_or_free(site: Site) -> None:
    site.fill(300)
    site.roll()
    old = site.rings.blind_index_key.newest
    known = iter(list(site.addresses.values()))
    with busy(site) as answers:
        new = site.rings.blind_index_key.with_pending(old + 1, new_key())
        site.use(blind_index_key=new)
        site.restart(0)
        assert_taken_once(site)
        site.restart(1)
        site.use(blind_index_key=new.promoted())
        site.restart(0)
        # Process 0 writes with the new key, process 1 with the old one.
        assert_taken_once(site)
        assert_waits_for_the_other_key(site)
        assert site.log_in(next(known), first=0) == site.log_in(next(known), first=1) == 200
        site.restart(1)
        assert site.survey()["indexes"][str(old)] >= 300
        site.reencrypt()
        assert set(site.survey()["indexes"]) == {str(old + 1)}
        assert_taken_once(site)
        site.use(blind_index_key=site.rings.blind_index_key.without(old))
        site.restart(0)
        assert_taken_once(site)
        site.restart(1)
    assert set(answers) == {200}
    site.assert_all_current()


def assert_taken_once(site: Site) -> None:
    """An address is registered once, whichever process is asked first, second or at the same time."""
    for first in (0, 1):
        address = f"once{uuid4().hex}@example.org"
        assert site.register(address, first=first) == 201
        assert site.register(address.upper(), first=1 - first) == 409
    address = f"once{uuid4().hex}@example.org"
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(lambda first: site.register(address, first=first), (0, 1))) == [201, 409]


def assert_waits_for_the_other_key(site: Site) -> None:
    """A registration that is under way with the old index key is seen by one with the new key."""
    address = f"wait{uuid4().hex}@example.org"
    old = next(iter(site.rings.index.candidates(address).values()))
    with site.connect() as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (old.hex(),))
            user = uuid7()
            email = site.rings.cipher.encrypt(address, Cell("users", "email", user))
            other.execute(
                "INSERT INTO chat.users (id, email, email_index, username, password_hash)"
                " VALUES (%s, %s, %s, %s, '$argon2id$')",
                (user, email, old, user.hex),
            )
            waiting = thread.submit(site.register, address, first=0)
            wait_for_lock(site, "app_auth", lambda: not waiting.done())
        assert waiting.result() == 409
    site.addresses[user] = address


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"password": "wrong"}, 2, "app_keys"),
        ({"field_keys": "1:short"}, 2, "32 bytes"),
        ({"rate": 0}, 2, "rate"),
        ({"environment_file": "/nowhere/chat_api.env"}, 2, "/nowhere/chat_api.env"),
    ],
)
def test_a_bad_request_is_one_line_without_a_key(site: Site, change: dict[str, Any], status: int, named: str) -> None:
    done = site.agent("reencrypt", **change)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert named in line
    assert str(change.get("field_keys", "no key")) not in line


def test_a_second_run_waits_for_the_first_and_says_so(site: Site) -> None:
    with site.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(hashtextextended('chat reencryption', 0))")
        done = site.agent("reencrypt")
    assert done.returncode == 1
    assert "re-encrypts already" in done.stderr


def test_app_keys_reaches_addresses_and_nothing_else(site: Site) -> None:
    port = site.servers.ports["postgresql"]
    password = site.servers.passwords["postgresql"]["app_keys"]
    forbidden = (
        "SELECT password_hash FROM chat.users",
        "SELECT username FROM chat.users",
        "UPDATE chat.users SET is_active = true",
        "INSERT INTO chat.users (id) VALUES (gen_random_uuid())",
        "DELETE FROM chat.users",
        "SELECT FROM chat.refresh_tokens",
        "SELECT FROM chat.profiles",
    )
    with psycopg.connect(
        host="127.0.0.1", port=port, user="app_keys", password=password, dbname="chat", autocommit=True
    ) as connection:
        assert connection.execute("SELECT count(email) FROM chat.users").fetchone() is not None
        for statement in forbidden:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
