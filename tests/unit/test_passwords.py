"""The passwords in the vault during a rotation, and what cannot be rotated."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbkeep import keys, passwords
from dbkeep.environment import Environment
from dbkeep.errors import UsageError
from dbkeep.redis.passwords import NEXT, PREVIOUS, valid
from dbkeep.secrets import faults, new_password
from dbkeep.vault import ensure_password, read_vault, write_vault

BEFORE = {user: new_password() for user in ("svc_api", "svc_auth", "admin")}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    ensure_password(tmp_path)
    (tmp_path / "group_vars/all").mkdir(parents=True)
    write_vault(tmp_path, {"redis": BEFORE, "chat_api": {"token_key": "kept"}})
    return Environment("unit", tmp_path, (), {}, {})


def test_both_passwords_are_let_in_from_before_the_services_change_until_after() -> None:
    begun = passwords.begun(BEFORE, ["svc_api"])
    handed_out = passwords.handed_out(begun)
    finished = passwords.finished(handed_out)
    old, new = BEFORE["svc_api"], begun["svc_api" + NEXT]
    assert [state["svc_api"] for state in (begun, handed_out, finished)] == [old, new, new]
    assert [set(valid(state, "svc_api")) for state in (begun, handed_out, finished)] == [{old, new}, {old, new}, {new}]
    assert handed_out["svc_api" + PREVIOUS] == old
    assert finished == {**BEFORE, "svc_api": new}
    assert faults({"redis": begun}, {}) == faults({"redis": handed_out}, {}) == []


def test_steps_can_be_repeated() -> None:
    handed_out = passwords.handed_out(passwords.begun(BEFORE, list(BEFORE)))
    assert passwords.handed_out(handed_out) == handed_out
    assert passwords.finished(passwords.finished(handed_out)) == passwords.finished(handed_out)


@pytest.mark.parametrize(("user", "reason"), [("admin", "made on the host"), ("svc_oath", "declares no user svc_oath")])
def test_only_a_services_user_has_a_password_to_rotate(environment: Environment, user: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        passwords.rotate(environment, ["svc_api", user])
    assert read_vault(environment.path)["redis"] == BEFORE


def test_one_command_at_a_time_changes_secrets(environment: Environment) -> None:
    with keys.changing(environment), pytest.raises(UsageError, match="another dbkeep command changes the secrets"):
        passwords.rotate(environment)


def test_without_a_host_nothing_is_begun(environment: Environment) -> None:
    with pytest.raises(UsageError, match="environment unit has no host in group redis"):
        passwords.rotate(environment)
    assert read_vault(environment.path) == {"redis": BEFORE, "chat_api": {"token_key": "kept"}}
