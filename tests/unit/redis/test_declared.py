"""The declared state in this repository is good, and bad input names file, line and key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dbkeep.errors import DeclaredError
from dbkeep.redis import Declared, read_declared, users

ROOT = Path(__file__).parents[3]


def test_the_repository_declares_both_instances_and_every_user() -> None:
    declared = read_declared(ROOT)
    assert set(declared.instances.instances) == {"state", "cache"}
    assert users(declared) == ["svc_auth", "svc_api", "svc_ws", "chat_monitor", "chat_audit", "admin"]
    assert Declared.model_validate_json(declared.model_dump_json()) == declared


BAD = [
    ("instances.yml", "  port: 0", "  maxmemory: 1gb", "settings.maxmemory: comes from memory_share"),
    ("instances.yml", "  port: 0", "  bind: 0.0.0.0", "settings.bind: belongs to the host"),
    ("instances.yml", "memory_share: 0.1", "memory_share: 1.5", "instances.state.memory_share: Input should be less"),
    ("instances.yml", "memory_share: 0.1", "memory_share: 0.95", "instances: the instances' memory_share add up"),
    (
        "instances.yml",
        "  port: 0",
        "  maxmemry: 1gb",
        "settings.maxmemry: no supported server has such a setting; is maxmemory",
    ),
    ("instances.yml", "  port: 0", "  hide-user-data-from-log: true", "hide-user-data-from-log: Redis 7.0 has no such"),
    (
        "instances.yml",
        "  port: 0",
        "  io-threads-do-reads: true",
        "io-threads-do-reads: Redis 8.0 and Valkey 8.1 has no",
    ),
    ("instances.yml", "  port: 0", "  requirepass: secret", "settings.requirepass: users stand in acl.yml"),
    ("instances.yml", "  port: 0", "  rename-command: FLUSHALL x", "who may run a command stands in acl.yml"),
    ("instances.yml", "  port: 0", "  loadmodule: /x.so", "settings.loadmodule: no module is managed"),
    ("instances.yml", "  port: 0", "  daemonize: true", "settings.daemonize: belongs to the systemd unit"),
    ("instances.yml", "  port: 0", "  port: 0\n  port: 1", "settings.port: the key stands twice"),
    ("instances.yml", "  cache:", "  state:", "instances.state: the key stands twice"),
    ("instances.yml", "  port: 0", "  port: [0]", "settings.port: Value error, a setting is a number"),
    ("instances.yml", "[ratelimit]", "[limits]", "instances.state.functions.0: functions/limits.lua does not exist"),
    ("instances.yml", "purpose: Sessions", "porpoise: Sessions", "instances.state.purpose: Field required"),
    ("keyspaces.yml", '"pres:"', '"sess:"', "keyspaces.1.prefix: the prefix sess: stands twice"),
    ("keyspaces.yml", "instance: state", "instance: stat", "keyspaces.0.instance: instances.yml declares no instance"),
    ("keyspaces.yml", "owner: svc_auth", "owner: svc_oath", "keyspaces.0.owner: acl.yml declares no user svc_oath"),
    ("keyspaces.yml", "minimum: 60", "minimum: 99999999", "keyspaces.0.ttl_seconds: minimum is more than maximum"),
    (
        "keyspaces.yml",
        "may_be_lost\n    owner",
        "must_not_be_evicted\n    owner",
        "keyspaces.4.loss: instance cache evicts",
    ),
    ("keyspaces.yml", "types: [zset]", "types: [zsets]", "keyspaces.1.types.0: Input should be 'string'"),
    ("keyspaces.yml", "    loss: must_survive_restart", "    loss: maybe", "keyspaces.0.loss: Input should be"),
    ("acl.yml", "  admin:", "  root:", "users: the user admin is missing"),
    ("acl.yml", "  svc_ws:", "  default:", "users.default: the user default is always off"),
    (
        "acl.yml",
        "[get, set, del, publish]",
        '[get, "@read"]',
        "users.svc_auth.grants.0.commands.1: String should match",
    ),
    (
        "acl.yml",
        "[get, set, del, publish]",
        '[get, "@all"]',
        "users.svc_auth.grants.0.commands: only admin may hold @all",
    ),
    ("acl.yml", '["pres:*"]', '["*"]', "users.svc_api.grants.0.readwrite.0: * is outside the prefixes of state"),
    (
        "acl.yml",
        '["cache:*"]',
        '["sess:*"]',
        "users.svc_api.grants.3.readwrite.0: sess:* is outside the prefixes of cache",
    ),
    ("acl.yml", "ctl:session-revoked", "internal", "users.svc_auth.grants.0.channels.0: internal is outside"),
    (
        "acl.yml",
        "instances: [cache]",
        "instances: [cash]",
        "users.svc_api.grants.3.instances: instances.yml declares no instance cash",
    ),
    ("acl.yml", "  svc_ws:", "  svc_api:", "users.svc_api: the key stands twice"),
    ("functions/ratelimit.lua", "name=ratelimit", "name=limits", "the first line must be '#!lua name=ratelimit'"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[3])
def test_bad_input_names_file_line_and_key(bad: tuple[str, str, str, str], tmp_path: Path) -> None:
    name, old, new, message = bad
    shutil.copytree(ROOT / "redis", tmp_path / "redis")
    file = tmp_path / "redis" / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(DeclaredError) as raised:
        read_declared(tmp_path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{file}:{raised.value.line}: ")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeclaredError, match=r"instances\.yml: file is missing"):
        read_declared(tmp_path)
