"""One module of the API owns the keys of Redis, and what it says agrees with redis/."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_api import limits
from chat_api.auth.tokens import ACCESS_SECONDS
from chat_api.limits import Limit
from chat_api.stores import keyspaces
from chat_api.stores.keyspaces import ALL, Failure, Use
from dbkeep.backup.redis import MARKER, MARKER_SECONDS
from dbkeep.redis import read_declared
from dbkeep.redis.declared import ADMIN, Keyspace

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/chat_api"
DECLARED = read_declared(ROOT)
KEYS = {keyspace.prefix: keyspace for keyspace in DECLARED.keyspaces.keyspaces}
CHANNELS = {channel.prefix: channel for channel in DECLARED.keyspaces.channels}
# What the agent writes as admin; the API has no use of it.
OF_THE_AGENT = {prefix for prefix, keyspace in KEYS.items() if keyspace.owner == ADMIN}
PREFIXES = (*KEYS, *CHANNELS, "rl:")
OWNER = "stores/keyspaces.py"
# Who talks to the driver itself: nobody else can reach Redis but through a use.
DRIVER = {"stores/redis.py"}
LIMITS = [value for value in vars(limits).values() if isinstance(value, Limit)]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCE.rglob("*.py"):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text(encoding="utf-8"))


def literals(module: ast.Module) -> Iterator[str]:
    """Yield every string of a module, parts of f-strings too, but for what documents it."""
    documentation = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def spelled_keys(module: ast.Module) -> list[str]:
    # A prefix may stand at the beginning of a key, or after what a format string puts before it.
    found = re.compile(rf"(^|[^a-z])({'|'.join(map(re.escape, PREFIXES))})")
    return [text for text in literals(module) if found.search(text)]


def test_no_other_module_spells_a_key() -> None:
    assert {name for name, module in modules() if spelled_keys(module)} == {OWNER}


@pytest.mark.parametrize("code", ['"sess:1"', 'f"sess:{x}"', 'f"{x}:rl:{y}"', 'x + "cache:"', '"".join(["conv:", x])'])
def test_the_search_finds_every_way_to_spell_one(code: str) -> None:
    assert spelled_keys(ast.parse(f"def f(x, y):\n    return {code}"))


def test_no_other_module_imports_the_driver() -> None:
    def imports(module: ast.Module) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
        return found

    assert {name for name, module in modules() if "redis" in imports(module)} == DRIVER


def declared_for(use: Use) -> Keyspace | None:
    return next((keyspace for prefix, keyspace in KEYS.items() if use.prefix.startswith(prefix)), None)


def test_every_declared_keyspace_and_channel_has_a_use_and_every_use_a_declaration() -> None:
    assert [MARKER.startswith(prefix) for prefix in OF_THE_AGENT] == [True]
    used = OF_THE_AGENT | {prefix for prefix in (*KEYS, *CHANNELS) if any(use.prefix.startswith(prefix) for use in ALL)}
    assert used == {*KEYS, *CHANNELS}
    assert not [use for use in ALL if not use.prefix.startswith((*KEYS, *CHANNELS))]
    assert set(ALL) == {value for value in vars(keyspaces).values() if isinstance(value, Use)}


@pytest.mark.parametrize("use", ALL, ids=lambda use: f"{use.user} {use.prefix}")
def test_a_use_agrees_with_its_declaration(use: Use) -> None:
    keyspace = declared_for(use)
    channel = next((channel for prefix, channel in CHANNELS.items() if use.prefix.startswith(prefix)), None)
    declared = keyspace or channel
    assert declared is not None
    assert use.instance == declared.instance
    if keyspace and use.seconds:
        assert keyspace.ttl_seconds.minimum <= use.seconds <= keyspace.ttl_seconds.maximum
    patterns = {
        pattern
        for grant in DECLARED.grants(use.user, use.instance)
        for pattern in (*grant.read, *grant.readwrite, *grant.channels)
    }
    assert any(use.key("x").startswith(p.rstrip("*")) or use.key() == p for p in patterns)


def test_the_marker_of_a_point_agrees_with_its_declaration() -> None:
    (keyspace,) = (KEYS[prefix] for prefix in OF_THE_AGENT)
    assert keyspace.ttl_seconds.minimum <= MARKER_SECONDS <= keyspace.ttl_seconds.maximum
    assert keyspace.types == ("string",)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_is_whole_again_within_the_bounds_of_its_keyspace(limit: Limit) -> None:
    keyspace = declared_for(limit.use)
    assert keyspace is not None
    assert math.ceil(limit.period_seconds * 1e6 / limit.count) * limit.burst <= keyspace.ttl_seconds.maximum * 1e6


def test_no_two_limits_share_a_key() -> None:
    assert len(LIMITS) == len({limit.use.key(limit.name) for limit in LIMITS}) >= 6


def test_a_session_lives_as_long_as_its_token() -> None:
    assert keyspaces.SESSION_WRITES.seconds == ACCESS_SECONDS


def test_what_guards_fails_closed_and_what_helps_fails_open() -> None:
    assert {use.prefix for use in ALL if use.fails is Failure.CLOSED} == {"sess:", "rl:auth:", "pres:"}
    guards = {limit.name for limit in LIMITS if limit.use.fails is Failure.CLOSED}
    assert guards == {"login-account", "login-address", "register-address", "refresh-address"}
