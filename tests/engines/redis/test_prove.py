"""The prover on real servers: silent on the declared state, and loud on holes made by hand."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbkeep import redis as engine
from dbkeep.cli import cli
from dbkeep.ports import free_port
from dbkeep.prove.budget import Budget
from dbkeep.prove.probe import run
from dbkeep.redis.connect import connect as as_admin
from dbkeep.redis.prove import live, matrix, registry, server
from dbkeep.redis.prove.attempts import attempt
from dbkeep.redis.prove.engine import Engine
from dbkeep.redis.prove.probes import keys, limits, regressions
from dbkeep.redis.prove.seed import MARK
from dbkeep.redis.prove.world import World
from dbkeep.sandbox.redis import Program

from ..complaints import complaints
from .conftest import SERVERS

ROOT = Path(__file__).parents[3]
LIBRARY = shlex.quote("#!lua name={}\nredis.register_function('{}', function() return {{1, 9, 0, 0}} end)")


@pytest.fixture(scope="module")
def world(declared: engine.Declared) -> Iterator[World]:
    """Servers as declared, which no test changes for good."""
    with server.start(declared) as made:
        yield made


@pytest.fixture(scope="module")
def budget() -> Budget:
    return Engine(ROOT, None).budget()


def test_the_declared_state_gives_no_finding(world: World, budget: Budget) -> None:
    results = list(run(world, registry.ALL))
    assert complaints(results, budget) == []
    assert budget.unused(results) == ()
    notes = {result.probe.id: " ".join(result.notes) for result in results}
    assert "hot set hit in" in notes["P50"]
    assert "acknowledged writes lost" in notes["P52"]


@pytest.mark.parametrize("name", SERVERS[1:])
def test_the_declared_state_gives_no_finding_on_other_servers(
    name: str, programs: dict[str, Program], declared: engine.Declared, budget: Budget
) -> None:
    with server.start(declared, program=programs[name]) as other:
        assert complaints(list(run(other, registry.ALL)), budget) == []
        assert list(matrix.findings(list(matrix.observe(other)))) == []


def test_the_matrix_agrees_with_itself_and_covers_every_command(world: World) -> None:
    cells = list(matrix.observe(world))
    assert list(matrix.findings(cells)) == []
    for instance in world.instances:
        known = {command.name for command in world.commands(instance)}
        for user in world.users(instance):
            mine = [cell for cell in cells if cell.role == user and cell.target.startswith(f"{instance} ")]
            assert set().union(*(cell.commands for cell in mine)) == known
            assert all(cell.tried == cell.commands for cell in mine)
    seen = {(cell.role, cell.target, cell.action): cell.observed for cell in cells}
    assert "get" in seen["svc_api", "state sess:*", "read"]
    assert not seen["svc_api", "state sess:*", "write"]
    assert not seen["svc_api", "state other keys", "read"]


def test_the_matrix_finds_what_is_granted_and_not_declared(declared: engine.Declared) -> None:
    with server.start(declared) as broken:
        admin = broken.admin("state")
        admin.execute_command("ACL", "SETUSER", "svc_ws", "+strlen", "+time", "-publish")  # type: ignore[no-untyped-call]
        found = {str(finding).strip() for finding in matrix.findings(list(matrix.observe(broken)))}
    assert "svc_ws look state pres:*: granted, not declared: strlen" in found
    assert "svc_ws run state (no key): granted, not declared: time" in found
    assert "svc_ws run state channel conv:*: declared, not granted: publish" in found
    assert len(found) == 3


HOLES = [
    ("P01", "state", "ACL SETUSER default on nopass +ping", "(not logged on)"),
    ("P02", "cache", "ACL SETUSER default on nopass", "default"),
    ("P03", "state", "ACL SETUSER svc_api nopass", "svc_api"),
    ("P10", "state", "ACL SETUSER svc_api +keys", "svc_api"),
    ("P11", "state", "ACL SETUSER svc_api '(~rl:auth:* +get)'", "svc_api"),
    ("P12", "state", "ACL SETUSER svc_api '(~sess:* +del)'", "svc_api"),
    ("P14", "state", "ACL SETUSER svc_ws +watch ~sess:*", "svc_ws"),
    ("P15", "state", "ACL SETUSER svc_ws '(~sess:* +exists)'", "svc_ws"),
    ("P16", "cache", "ACL SETUSER svc_api +randomkey", "svc_api"),
    ("P17", "state", "ACL SETUSER svc_api +slowlog|get", "svc_api"),
    ("P20", "cache", "ACL SETUSER svc_api +eval", "svc_api"),
    ("P21", "state", "ACL SETUSER chat_monitor +config|get", "chat_monitor"),
    ("P22", "state", "ACL SETUSER svc_ws +replicaof", "svc_ws"),
    ("P23", "cache", "ACL SETUSER svc_api +flushdb", "svc_api"),
    ("P24", "state", "ACL SETUSER chat_monitor +acl|list", "chat_monitor"),
    ("P25", "state", "ACL SETUSER svc_ws +client|list", "svc_ws"),
    ("P26", "state", "ACL SETUSER svc_api +wait", "svc_api"),
    ("P30", "state", f"FUNCTION LOAD REPLACE {LIBRARY.format('ratelimit', 'rate_limit')}", "svc_auth"),
    ("P31", "cache", f"FUNCTION LOAD {LIBRARY.format('probe', 'probe')}", "admin"),
    ("P32", "state", "ACL SETUSER svc_ws +psubscribe allchannels", "svc_ws"),
    ("P33", "state", "ACL SETUSER svc_auth +subscribe &conv:*", "svc_auth"),
    ("C01", "state", "ACL SETUSER svc_auth >one-more", "svc_auth"),
    ("C03", "state", f"FUNCTION LOAD {LIBRARY.format('probe', 'probe')}", "(server)"),
]
SETTINGS = [
    ("P06", "cache", "tls-protocols", "TLSv1 TLSv1.1 TLSv1.2"),
    ("P06", "state", "tls-ciphers", "ALL"),
    ("P07", "state", "tls-auth-clients", "no"),
    ("P18", "state", "slowlog-log-slower-than", "-1"),
    ("P27", "cache", "enable-debug-command", "yes"),
    ("P27", "state", "databases", "2"),
    ("P34", "state", "notify-keyspace-events", "KEA"),
    ("P35", "cache", "acl-pubsub-default", "allchannels"),
    ("P40", "state", "client-output-buffer-limit", "normal 0 0 0 replica 0 0 0 pubsub 0 0 0"),
    ("P40", "cache", "maxmemory-clients", "0"),
    ("P42", "state", "proto-max-bulk-len", "512mb"),
    ("P45", "cache", "sanitize-dump-payload", "no"),
    ("P50", "cache", "maxmemory-policy", "noeviction"),
    ("P50", "cache", "maxmemory", "0"),
    ("P51", "state", "maxmemory-policy", "allkeys-lru"),
    ("P51", "state", "maxmemory", "0"),
    ("P52", "state", "appendonly", "no"),
    ("P53", "cache", "save", "3600 1"),
    ("C02", "state", "loglevel", "warning"),
]  # fmt: skip


def found_by(probe: str, world: World) -> set[str]:
    (result,) = run(world, registry.select([probe]))
    assert result.findings, result
    return {
        finding.role for finding in result.findings if not finding.leak or finding.role not in ("chat_audit", "admin")
    }


@pytest.mark.parametrize(("probe", "instance", "hole", "role"), HOLES, ids=[hole[0] for hole in HOLES])
def test_a_hole_is_found(declared: engine.Declared, probe: str, instance: str, hole: str, role: str) -> None:
    with server.start(declared) as broken:
        broken.admin(instance).execute_command(*shlex.split(hole))  # type: ignore[no-untyped-call]
        assert role in found_by(probe, broken)


@pytest.mark.parametrize(
    ("probe", "instance", "name", "value"), SETTINGS, ids=[f"{setting[0]} {setting[2]}" for setting in SETTINGS]
)
def test_a_setting_that_lets_go_is_found(
    declared: engine.Declared, probe: str, instance: str, name: str, value: str
) -> None:
    with server.start(declared, changed={instance: {name: value}}) as broken:
        (result,) = run(broken, registry.select([probe]))
    assert [finding for finding in result.findings if instance in finding.target], result


def test_an_open_port_is_found(declared: engine.Declared) -> None:
    with server.start(declared, changed={"cache": {"port": str(free_port())}}) as broken:
        assert found_by("P05", broken) == {"(anybody)"}


def test_an_old_password_that_still_works_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def adds(settings: Any, _: engine.Declared, secrets: dict[str, str]) -> None:
        for name, instance in settings.instances.items():
            with as_admin(name, instance) as client:
                for user in world.users(name):
                    client.execute_command("ACL SETUSER", user, f">{secrets[user]}")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(engine, "apply", _first_then(engine.apply, adds))
    assert found_by("P04", world) >= {"svc_auth", "svc_api"}


def _first_then(first: Any, then: Any) -> Any:
    calls = iter([first])

    def apply(*arguments: Any) -> Any:
        return next(calls, then)(*arguments)

    return apply


def test_probes_of_the_server_itself_can_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting breaks these, only a server with another fault: each is shown a trial that it must not pass."""
    monkeypatch.setattr(keys, "_rules", lambda _: ["~*"])
    assert "svc_ws" in found_by("P13", world)
    monkeypatch.setattr(limits, "PINGS", 10)
    assert found_by("P41", world) == {"(not logged on)"}
    monkeypatch.setattr(regressions, "ENDED_SERVERS", {"none": ("QUIT", "PING")})
    assert found_by("P43", world) == {"(any)"}
    monkeypatch.setattr(regressions, "SLOW", ("EVAL", "for i = 1, 1e8 do end", "0"))
    monkeypatch.setattr(regressions, "PATIENCE_SECONDS", 0.2)
    assert found_by("P44", world) == {"(any)"}
    for instance in world.instances:
        while not attempt(world.admin(instance), "PING").answered:
            time.sleep(0.1)


def test_a_leak_beyond_the_budget_is_a_finding(world: World, budget: Budget) -> None:
    (result,) = run(world, registry.select(["P17"]))
    assert budget.beyond(result) == ()
    narrow = Budget(budget.file, {name: leak for name, leak in budget.leaks.items() if name != "slow_commands"})
    assert {finding.role for finding in narrow.beyond(result)} == {"chat_monitor"}


def test_a_world_without_an_administrator_is_tried_and_left_as_it_was(world: World, budget: Budget) -> None:
    """What runs on a live server: planted keys come and go, and what is left expires."""
    for instance in world.instances:
        world.admin(instance).flushall()
        world.admin(instance).execute_command("SET", "mine", "kept")  # type: ignore[no-untyped-call]
    guest = World(
        world.declared, world.seed, world.connect, ports=world.ports, authority=world.authority,
        passwords=world.passwords,
    )  # fmt: skip
    with guest:
        live.plant(guest)
        seconds = world.admin("state").execute_command("TTL", world.seed.key("sess:"))  # type: ignore[no-untyped-call]
        results = list(run(guest, [probe for probe in registry.ALL if probe.live]))
        cells = list(matrix.observe(guest))
        live.remove(guest)
    assert 0 < seconds <= 120
    assert complaints(results, budget) == []
    assert list(matrix.findings(cells)) == []
    assert all(cell.tried.isdisjoint(cell.declared) for cell in cells)
    assert any(cell.tried for cell in cells)
    for instance in world.instances:
        left = {
            key: world.admin(instance).execute_command("TTL", key)  # type: ignore[no-untyped-call]
            for key in world.admin(instance).execute_command("KEYS *")  # type: ignore[no-untyped-call]
        }
        assert left.pop("mine") == -1
        assert all(MARK in key and seconds > 0 for key, seconds in left.items()), left
    with pytest.raises(ValueError, match="never touched as administrator"):
        guest.admin("state")


def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["prove", "redis", "--probes", "P08,P32", "--json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert (ended.value.code, document["passed"]) == (0, True)
    assert [probe["id"] for probe in document["probes"]] == ["P08", "P32"]
    assert document["leak_budget"]["administrator_by_network"] == {"declared": ["admin"], "observed": ["admin"]}
    assert document["not_mutated"] == "not asked for"


def test_every_probe_is_shown_to_fail() -> None:
    """The table above and the tests beside it break something for every probe."""
    beside = {"P04", "P05", "P08", "P13", "P41", "P43", "P44"}
    assert {probe.id for probe in registry.ALL} == {hole[0] for hole in (*HOLES, *SETTINGS)} | beside
