"""The keys in the vault: read, changed and retired; a bad state is one line that names it."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from chat_api.key_ring import KeyRing
from dbkeep import keys
from dbkeep.environment import Environment
from dbkeep.errors import UsageError
from dbkeep.secrets import faults, new_password
from dbkeep.vault import ensure_password, read_vault, write_vault


def environment(folder: Path, **chat_api: str) -> Environment:
    """An environment as `dbkeep init` makes it, with these values below chat_api."""
    ensure_password(folder)
    (folder / "group_vars/all").mkdir(parents=True)
    made: dict[str, Any] = {"field_key": new_password(), "blind_index_key": new_password(), **chat_api}
    write_vault(folder, {"postgresql": {"app_keys": new_password()}, "chat_api": {"token_key": "kept", **made}})
    return Environment("unit", folder, (), {}, {})


def rows(rings: keys.Rings, values: dict[str, int]) -> list[tuple[int, str, int | None]]:
    found = keys._versions(keys.FIELD, rings, values)
    return [(row["version"], row["state"], row["values"]) for row in found]


def test_a_key_goes_from_new_to_pending_to_newest_to_old_to_retired(tmp_path: Path) -> None:
    at = environment(tmp_path)
    first = keys.read_rings(at)
    assert rows(first, {"1": 5}) == [(1, "newest", 5)]
    pending = keys._with_pending(first, (keys.FIELD,))
    keys.write_rings(at, pending)
    assert rows(keys.read_rings(at), {"1": 5}) == [(1, "newest", 5), (2, "pending", 0)]
    promoted = keys.Rings({k: ring.promoted() for k, ring in pending.live.items()}, {}, pending.password)
    keys.write_rings(at, promoted)
    assert rows(keys.read_rings(at), {"1": 2, "2": 3}) == [(1, "old", 2), (2, "newest", 3)]
    keys.write_rings(at, keys._without(promoted, keys.FIELD, 1))
    last = keys.read_rings(at)
    assert rows(last, {"2": 5}) == [(1, "retired", 0), (2, "newest", 5)]
    assert set(last.live[keys.FIELD].keys) == {2}
    assert set(last.all_keys(keys.FIELD).keys) == {1, 2}
    # A retired version's number is never given again, and other secrets stay.
    assert keys._with_pending(last, (keys.FIELD,)).live[keys.FIELD].pending == 3
    vault = read_vault(tmp_path)
    assert vault["chat_api"]["token_key"] == "kept"
    assert faults({"chat_api": {k: v for k, v in vault["chat_api"].items() if k != "token_key"}}, {}) == []


def test_a_version_nobody_has_a_key_for_is_shown(tmp_path: Path) -> None:
    assert rows(keys.read_rings(environment(tmp_path)), {"0": 1, "1": 5, "9": 2}) == [
        (0, "unknown", 1),
        (1, "newest", 5),
        (9, "unknown", 2),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "no key to write with"), ("1:x", "32 bytes"), ("a:b:c", "VERSION:KEY"), ("\n", "no key to write with")],
)
def test_a_ring_that_cannot_be_read_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"inventory/unit: dbkeep_secrets.chat_api.field_key: .*{reason}"):
        keys.read_rings(environment(tmp_path, field_key=text))


def test_a_vault_from_before_app_keys_says_what_to_do(tmp_path: Path) -> None:
    at = environment(tmp_path)
    write_vault(tmp_path, {**read_vault(tmp_path), "postgresql": {}})
    with pytest.raises(UsageError, match=r"postgresql.app_keys is missing: `dbkeep init unit`"):
        keys.read_rings(at)


@pytest.mark.parametrize(
    ("version", "pending", "reason"),
    [(9, None, "no such version"), (2, None, "the newest"), (1, 2, "waits to be finished")],
)
def test_only_an_old_version_is_retired(tmp_path: Path, version: int, pending: int | None, reason: str) -> None:
    ring = KeyRing({1: secrets.token_bytes(32), 2: secrets.token_bytes(32)}, pending)
    at = environment(tmp_path, field_key=ring.text)
    with pytest.raises(UsageError, match=reason):
        keys.retire(at, version)


def test_one_command_at_a_time_changes_keys(tmp_path: Path) -> None:
    at = environment(tmp_path)
    with keys.changing(at), pytest.raises(UsageError, match="another dbkeep command changes the secrets of unit"):
        keys.rotate(at)
