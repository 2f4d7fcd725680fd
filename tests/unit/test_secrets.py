"""Secrets: complete, random, and refused by name when they are not."""

from __future__ import annotations

import pytest

from dbkeep.errors import UsageError
from dbkeep.secrets import add_missing, age_recipient, faults, new_keyfile, new_password, wanted
from dbkeep.tls import new_authority

USERS = {"postgresql": ["app_api", "app_auth"], "mongodb": ["chat_api"], "redis": ["admin"]}


def test_every_wanted_secret_is_made_and_none_is_at_fault() -> None:
    complete, added = add_missing({}, wanted(USERS))
    assert added == [
        "ca_private_key",
        "mongodb_keyfile",
        "postgresql.app_api",
        "postgresql.app_auth",
        "mongodb.chat_api",
        "redis.admin",
        "postgresql.context_key",
        "backup.pgbackrest_cipher_pass",
        "backup.age_identity",
        "backup.signing_key",
        "chat_api.token_key",
        "chat_api.field_key",
        "chat_api.blind_index_key",
    ]
    assert faults(complete, wanted(USERS)) == []


def test_two_environments_share_no_secret() -> None:
    first, _ = add_missing({}, wanted(USERS))
    second, _ = add_missing({}, wanted(USERS))
    assert set(first["postgresql"].values()).isdisjoint(second["postgresql"].values())
    assert first["ca_private_key"] != second["ca_private_key"]


def test_a_secret_that_exists_stays_and_a_new_user_gets_one() -> None:
    before, _ = add_missing({}, wanted(USERS))
    after, added = add_missing(before, wanted({**USERS, "mongodb": ["chat_api", "chat_audit"]}))
    assert added == ["mongodb.chat_audit"]
    assert {key: value for key, value in after.items() if key != "mongodb"} == {
        key: value for key, value in before.items() if key != "mongodb"
    }
    assert after["mongodb"]["chat_api"] == before["mongodb"]["chat_api"]


def test_keys_without_values_as_in_the_example_are_filled() -> None:
    shape = {"ca_private_key": None, "postgresql": None, "backup": {"age_identity": None}}
    complete, added = add_missing(shape, wanted(USERS))
    assert "postgresql.app_api" in added
    assert "backup.age_identity" in added
    assert faults(complete, wanted(USERS)) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is empty"),
        ("", "is empty"),
        ("   ", "is empty"),
        (12345678, "is not a string"),
        ("changeme", "is a placeholder, not a secret"),
        ("Example-0123456789-abcdefghijklmnop", "is a placeholder, not a secret"),
        ("hunter2", "is guessable: it needs at least 32 random characters"),
        ("a" * 64, "is guessable: it needs at least 32 random characters"),
    ],
)
def test_a_bad_secret_is_refused_by_name(value: object, reason: str) -> None:
    secrets, _ = add_missing({}, wanted(USERS))
    secrets["redis"]["admin"] = value
    assert faults(secrets, wanted(USERS)) == [f"dbkeep_secrets.redis.admin {reason}"]


def test_a_missing_secret_and_one_used_twice_are_refused_by_name() -> None:
    secrets, _ = add_missing({}, wanted(USERS))
    secrets["postgresql"]["app_api"] = secrets["postgresql"]["app_auth"]
    del secrets["backup"]["age_identity"]
    assert faults(secrets, wanted(USERS)) == [
        "dbkeep_secrets.backup.age_identity is missing",
        "dbkeep_secrets.postgresql.app_auth is the same as dbkeep_secrets.postgresql.app_api",
    ]


def test_a_fault_never_shows_the_value() -> None:
    secrets, _ = add_missing({}, wanted(USERS))
    secrets["redis"]["admin"] = "hunter2"
    assert "hunter2" not in "".join(faults(secrets, wanted(USERS)))


def test_passwords_need_no_quoting_and_the_keyfile_suits_mongodb() -> None:
    for password in (new_password() for _ in range(200)):
        assert password[0].isalnum()
        assert set(password) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        assert len(password) == 43
    assert 6 <= len(new_keyfile()) <= 1024
    assert set(new_keyfile()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def test_an_age_identity_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"dbkeep_secrets\.backup\.age_identity is not an age identity"):
        age_recipient("AGE-SECRET-KEY-1NOTONE")


def test_the_authority_key_makes_an_authority() -> None:
    secrets, _ = add_missing({}, wanted(USERS))
    assert new_authority(secrets["ca_private_key"], "test").startswith("-----BEGIN CERTIFICATE-----")
