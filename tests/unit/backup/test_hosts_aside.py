"""Hosts that stand aside: nobody looks for the environment's data there, a restore may go there, drills run there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup.controller import drill as controller_drill
from dbkeep.backup.controller import sets as controller
from dbkeep.backup.controller import target as controller_target
from dbkeep.backup.controller.drill import drill_hosts, run_drill
from dbkeep.backup.controller.restore import restore_plan
from dbkeep.backup.controller.sets import placed
from dbkeep.backup.controller.target import bring, onto
from dbkeep.backup.restore.target import Target
from dbkeep.commands.restore import parse_place
from dbkeep.environment import Environment, Host
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.inventory import members

ENGINES = ("postgresql", "mongodb", "redis")
SET = "20261128T020000Z"
AT = datetime(2026, 11, 28, 2, tzinfo=UTC).isoformat()
STORES = [{"name": "nas", "type": "directory", "path": "/mnt/nas", "off_host": True}]


def of(name: str, *groups: str) -> Host:
    return Host(name, f"198.18.0.{ord(name)}", "root", 22, None, (), frozenset(groups), {"mongodb_port": 27017})


def environment_of(*hosts: Host, stores: list[dict[str, Any]] | None = None) -> Environment:
    secrets = {"backup": {"age_identity": "the drill's"}}
    return Environment("e", Path("inventory/e"), hosts, {"backup_stores": stores or []}, secrets)


@pytest.fixture
def environment() -> Environment:
    """A live host, one that stands by with all engines, one with less, and a host with nothing."""
    return environment_of(
        of("s", *ENGINES, "standby"), of("a", *ENGINES), of("r", "redis", "standby"), of("n", "chat_api")
    )


def test_nobody_looks_for_the_environments_data_on_a_host_that_stands_aside(environment: Environment) -> None:
    assert [host.name for host in environment.hosts("mongodb")] == ["a"]
    assert [host.name for host in placed(environment)] == ["a"]
    assert [host.name for host in environment.hosts("standby")] == ["s", "r"]
    standby, live = environment.hosts("standby")[0], environment.hosts("mongodb")[0]
    assert members(environment) == members(environment, live) == (f"{live.address}:27017",)
    assert members(environment, standby) == (f"{standby.address}:27017",)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a", "it is the host that holds postgresql, mongodb, redis; without --target it is restored in place"),
        ("n", r"it is in none of the groups drill, standby.*hosts in these groups: s, r"),
        ("r", r"it has no postgresql, mongodb: put it into that group .* or name the engines to restore with --engine"),
    ],
)
def test_a_host_that_cannot_be_a_target_is_refused(environment: Environment, name: str, reason: str) -> None:
    host = parse_place(environment, name)
    assert host is not None
    with pytest.raises(UsageError, match=reason):
        onto(environment, host)


def test_a_host_gets_the_engines_that_were_asked_for(environment: Environment) -> None:
    standby, small = environment.hosts("standby")
    assert onto(environment, standby) == {standby: list(ENGINES)}
    assert onto(environment, small, ["redis"]) == {small: ["redis"]}


def test_a_place_is_a_host_of_the_inventory_or_a_whole_path(environment: Environment) -> None:
    assert parse_place(environment, None) is None
    assert parse_place(environment, "/srv/look") is None
    for word in ("look", "./look", "srv/look", "A"):
        with pytest.raises(UsageError, match=r"no host of inventory/e \(there is s, a, r, n\), and no folder"):
            parse_place(environment, word)


class Agents:
    """Stands in for the agents: keeps what each host is asked, and answers by word."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.answers = answers
        for module in (controller, controller_drill):
            monkeypatch.setattr(module, "call", self.call)

    def call(self, host: Host, words: list[str], request: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.asked.append((host.name, words[-1], request))
        answer = self.answers[words[-1]]
        return dict(answer(host.name) if callable(answer) else answer)


def test_the_other_host_plans_what_the_source_sent(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []

    def transfer(
        source: Host, words: list[str], request: dict[str, Any], sink: Host, taken: list[str], **_: Any
    ) -> None:
        sent.append((source.name, words[-1], request["records_only"], sink.name, taken))

    monkeypatch.setattr(controller_target, "transfer", transfer)
    agents = Agents(monkeypatch, plan={"parts": [{"engine": "redis"}], "began": AT, "at": AT})
    plan = restore_plan(environment, Target(point="p"), host=environment.hosts("standby")[0])
    assert plan["source"] == "a"
    assert sent == [("a", "send", True, "s", ["backup", "receive"])]
    (asked,) = agents.asked
    assert (asked[0], asked[2]["source"], asked[2]["store"], asked[2]["point"]) == ("s", "a", "local", "p")


def test_a_source_that_is_gone_is_said_to_need_a_store(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise UsageError("a (198.18.0.97): SSH failed: no route to host")

    monkeypatch.setattr(controller_target, "transfer", gone)
    request = {"set_id": SET, "point": None, "to": None}
    with pytest.raises(UsageError, match=r"SSH failed.*a host that is gone is restored from a store: --store NAME"):
        bring(placed(environment), environment.hosts("standby")[0], request, on_progress=lambda _: None)


def drilled(*, lost: bool = False) -> dict[str, Any]:
    """The answers of agents to a drill of set SET; the host `a` is `lost` or not."""

    def keep(host: str) -> dict[str, Any]:
        if lost:
            raise DbkeepError(f"{host}: no route to host")
        return {}

    result: dict[str, Any] = {"passed": True, "error": None, "assertions": [], "recovery_point": AT}
    observed = {
        "set_id": SET,
        "engines": {name: dict(result) for name in ENGINES},
        "application": None,
        "references": None,
        "stored_bytes": 1,
        "rto_seconds": 1.0,
    }
    part = {"recovery_point": {"at": AT}, "stored_bytes": 1, "seconds": 1, "not_backed_up": []}
    parts = [{**part, "set_id": SET, "engine": name} for name in ENGINES]
    catalog: dict[str, Any] = {"parts": parts, "damaged": [], "stores": {}, "drill": None}
    return {"list": catalog, "drill": {"observed": observed}, "drilled": keep}


@pytest.mark.parametrize("lost", [False, True])
def test_drills_run_on_the_host_for_them_and_the_identity_goes_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, lost: bool
) -> None:
    environment = environment_of(of("a", *ENGINES), of("d", *ENGINES, "drill"), stores=STORES)
    monkeypatch.setattr(controller, "checkout", lambda: tmp_path)
    agents, said = Agents(monkeypatch, **drilled(lost=lost)), list[str]()
    evidence = run_drill(environment, attack=False, on_progress=said.append)
    assert evidence["result"] == "passed"
    asked = [(host, word) for host, word, _ in agents.asked]
    assert asked == [("d", "list"), ("d", "drill"), ("a", "drilled")]
    assert [host for host, _, request in agents.asked if "the drill's" in str(request)] == ["d"]
    assert agents.asked[1][2]["store"] == "nas"
    assert agents.asked[2][2]["evidence"] == evidence
    assert any("a does not know of this drill" in line for line in said) is lost


def test_a_drill_host_takes_no_copy_of_the_hosts_and_needs_every_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    agents = Agents(monkeypatch)
    live = of("a", *ENGINES)
    with pytest.raises(UsageError, match="d drills copies that are off the hosts: declare a store in backup_stores"):
        run_drill(environment_of(live, of("d", *ENGINES, "drill")))
    with pytest.raises(UsageError, match="d, of the group drill, has no mongodb, redis"):
        run_drill(environment_of(live, of("d", "postgresql", "drill"), stores=STORES))
    assert agents.asked == []
    assert drill_hosts(environment_of(live)) == {live: list(ENGINES)}
