"""The prover on a real server: silent on the declared state, and every probe loud on a hole of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click import UsageError as ClickUsageError
from pydantic import BaseModel, ConfigDict

from chat_api.conversations.repository import Conversations
from chat_api.messages import schemas as messages
from dbkeep import mongodb as engine
from dbkeep.cli import cli
from dbkeep.errors import UsageError
from dbkeep.mongodb.prove import budget as budgets
from dbkeep.mongodb.prove import matrix, registry, server
from dbkeep.mongodb.prove.documents import fitting, specimens
from dbkeep.mongodb.prove.faults import kinds
from dbkeep.mongodb.prove.mutants import Mutant
from dbkeep.mongodb.prove.mutation import Breaker
from dbkeep.mongodb.prove.privileges import ADMINISTRATION
from dbkeep.mongodb.prove.trials import trials
from dbkeep.mongodb.prove.values import Values
from dbkeep.mongodb.prove.world import World
from dbkeep.mongodb.statements import Command
from dbkeep.prove.budget import Budget
from dbkeep.prove.probe import run

from ..complaints import complaints
from .talk import Leaking

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def attacked(declared: engine.Declared) -> Iterator[server.Server]:
    with server.start(declared) as made:
        yield made


@pytest.fixture(scope="module")
def breaker(attacked: server.Server) -> Iterator[Breaker]:
    with Breaker(attacked) as made:
        yield made


@pytest.fixture
def world(breaker: Breaker) -> Iterator[World]:
    with breaker.whole() as copy:
        copy.first = frozenset()
        yield copy
        copy.reset()


@pytest.fixture(scope="module")
def budget(declared: engine.Declared) -> Budget:
    return budgets.read(ROOT, declared, registry.ALL)


@pytest.fixture(scope="module")
def mutants(breaker: Breaker) -> dict[str, Mutant]:
    with breaker.whole() as copy:
        return {mutant.name: mutant for mutant in breaker.mutants(copy)}


def test_the_declared_state_gives_no_finding(world: World, budget: Budget) -> None:
    results = list(run(world, registry.ALL))
    assert complaints(results, budget) == []
    assert budget.unused(results) == ()


def test_the_matrix_agrees_with_itself(world: World) -> None:
    cells = list(matrix.observe(world))
    assert list(matrix.findings(cells)) == []
    seen = {(cell.role, cell.target, cell.action): (cell.declared, cell.granted, cell.observed) for cell in cells}
    assert seen["chat_api", "chat.messages", "insert"] == (True, True, True)
    assert seen["chat_api", "chat.messages", "remove"] == (False, False, False)
    assert seen["chat_migrator", "chat.messages", "collMod"] == (True, True, True)
    assert seen["chat_backup", "local.oplog.rs", "find"] == (True, True, True)
    assert seen["chat_api", "cluster", "shutdown"] == (False, False, False)
    assert len(cells) > 4000


def test_at_least_200_faults_of_each_collection_are_made(world: World) -> None:
    for collection in world.declared.collections:
        made = specimens(world, collection)
        assert kinds([fault for _, fault in made.bad]) >= 200, collection.name
        assert len(made.good) >= 20


# Each probe, and the name of a mutant that it notices; those of how the server starts are tried with all mutants.
HOLES = {
    "P01": "chat_api: also remove on messages",
    "P02": "chat_retention: inherits read of chat",
    "P03": "chat_notifier: inherits readWrite of chat",
    "P04": "chat_notifier: also inprog on cluster",
    "P11": "chat_api: another password",
    "P13": "chat_api: password stored at 5000 iterations",
    "P20": "messages: action warn",
    "P21": "conversations: level off",
    "P22": "messages.created_at: unique",
    "P23": "messages: level moderate",
    "P26": "conversations.participants_last_message_at_id: of other documents",
    "P27": "notification_preferences.user_id: not unique",
    "P28": "notifications.expires_at: never",
    "P30": "profiling level 2",
    "P31": "logLevel 1",
    "P32": "message_activity: shows content",
    "P33": "chat_analytics: also find on messages",
    "C01": "conversation_activity: shows participants",
    "C02": "messages: an index more",
    "C03": "a user more",
    "C04": "transactionLifetimeLimitSeconds 61",
    "C05": "chat_api: also shutdown on cluster",
}
RESTARTS = {
    "P10": "authorization off",
    "P12": "SCRAM-SHA-1 enabled",
    "P14": "localhost exception open",
    "P16": "TLS allowed",
    "P17": "TLS 1.1 and 1.0 offered",
    "P18": "invalid certificates taken",
    "P19": "zlib offered",
    "P24": "JavaScript on",
    "P25": "test commands on",
}
BY_HAND = {"P15", "P40", "P41", "P42"}


def test_every_probe_has_a_hole() -> None:
    assert {probe.id for probe in registry.ALL} == HOLES.keys() | RESTARTS.keys() | BY_HAND


@pytest.mark.parametrize("probe_id", HOLES)
def test_a_hole_is_found(probe_id: str, breaker: Breaker, mutants: dict[str, Mutant]) -> None:
    with breaker.broken(mutants[HOLES[probe_id]]) as broken:
        (result,) = run(broken, registry.select([probe_id]))
    assert result.findings or result.problem, result


@pytest.mark.parametrize("probe_id", ["P10", "P16", pytest.param("P12", marks=pytest.mark.long)])
def test_another_way_to_start_is_found(probe_id: str, breaker: Breaker, mutants: dict[str, Mutant]) -> None:
    with breaker.broken(mutants[RESTARTS[probe_id]]) as broken:
        (result,) = run(broken, registry.select([probe_id]))
    assert result.findings, result


def test_without_authorization_nothing_that_would_harm_is_tried(breaker: Breaker, mutants: dict[str, Mutant]) -> None:
    with breaker.broken(mutants["authorization off"]) as broken:
        cells = list(matrix.observe(broken))
        harmful = {trial.action for cell in cells for trial in trials(cell.on) if not trial.harmless}
        assert {cell.observed for cell in cells if cell.action in harmful} == {None}
        assert {cell.observed for cell in cells if (cell.target, cell.action) == ("chat.messages", "find")} == {True}
        assert broken.client(None).admin.command("ping")["ok"] == 1


def test_names_of_users_are_a_leak_of_the_budget(world: World, budget: Budget) -> None:
    (result,) = run(world, registry.select(["P15"]))
    assert len(result.findings) == 2
    assert budget.beyond(result) == ()
    assert Budget(budget.file, {}).beyond(result) == result.findings


@pytest.mark.parametrize("forgotten", ["participants", "conversation_id", "user_id"])
def test_a_query_that_forgets_the_user_is_found(forgotten: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = world.store
    assert store is not None
    monkeypatch.setattr(world, "store", lambda: _closing(store(), forgotten))
    (result,) = run(world, registry.select(["P40"]))
    assert result.findings or result.problem, result


def _closing(store: Any, forgotten: str) -> Any:
    leaking: Any = Leaking(store, forgotten)
    leaking.close = store.close
    return leaking


def test_a_method_that_takes_anything_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: Any = Conversations.one
    monkeypatch.setattr(Conversations, "one", checked.__wrapped__)
    results = list(run(world, registry.select(["P41"])))
    assert "Conversations.one acting_user" in {finding.target for finding in results[0].findings}


def test_a_body_that_takes_anything_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class NewMessage(BaseModel):
        model_config = ConfigDict(extra="forbid")
        content: Any

    monkeypatch.setattr(messages, "NewMessage", NewMessage)
    (result,) = run(world, registry.select(["P42"]))
    assert {finding.target for finding in result.findings} == {"NewMessage.content"}


def test_the_matrix_finds_what_is_granted_and_not_declared(breaker: Breaker) -> None:
    where = {"db": "chat", "collection": "messages"}
    more = {"grantPrivilegesToRole": "chat_analytics", "privileges": [{"resource": where, "actions": ["find"]}]}
    less = {"revokePrivilegesFromRole": "chat_analytics", "privileges": [{"resource": where, "actions": ["find"]}]}
    hole = Mutant("by hand", "by hand", (Command(ADMINISTRATION, more),), (Command(ADMINISTRATION, less),))
    with breaker.broken(hole) as broken:
        found = [str(finding).strip() for finding in matrix.findings(list(matrix.observe(broken)))]
    assert found == ["chat_analytics find chat.messages: granted, not declared"]


def test_a_world_without_an_administrator_is_tried_and_left_as_it_was(
    world: World, attacked: server.Server, budget: Budget
) -> None:
    """What runs on a live server: nothing is stored, and nothing of what is there is changed."""
    administrator = world.administrator()
    for collection in world.declared.collections:
        others = [Values(number).document(collection.json_schema) for number in range(9000, 9060)]
        administrator["chat"][collection.name].insert_many(fitting(world, collection, others, collection.validator))
    before = _contents(world)
    with World(world.declared, world.connect, tls_version=world.tls_version) as live:
        results = list(run(live, [probe for probe in registry.ALL if probe.live]))
        cells = list(matrix.observe(live))
    assert complaints(results, budget) == []
    assert list(matrix.findings(cells)) == []
    assert _contents(world) == before
    assert {"P20", "P21", "P22"} <= {result.probe.id for result in results}
    assert engine.plan(attacked.settings, attacked.declared, attacked.passwords).changes == ()


def _contents(world: World) -> dict[str, list[dict[str, Any]]]:
    database = world.administrator()["chat"]
    names = set(database.list_collection_names(filter={"type": "collection"})) - {"system.views"}
    return {name: list(database[name].find().sort("_id")) for name in sorted(names)}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["prove", "mongodb", *arguments], standalone_mode=False)
        return int(ended.value.code or 0), capsys.readouterr().out

    return call


def test_the_command_prints_one_document(printed: Callable[..., tuple[int, str]]) -> None:
    status, out = printed("--probes", "P15,P25", "--json")
    document = json.loads(out)
    assert (status, document["passed"]) == (0, True)
    assert [probe["id"] for probe in document["probes"]] == ["P15", "P25"]
    assert document["mongodb"].startswith("6.")
    assert document["leak_budget"]["names_of_users"] == {"declared": ["anybody"], "observed": ["anybody"]}
    assert document["not_mutated"] == "not asked for"


@pytest.mark.parametrize("option", [("--version", "15"), ("--context", "plain")])
def test_an_option_of_another_engine_is_refused(option: tuple[str, str]) -> None:
    with pytest.raises((UsageError, ClickUsageError), match=r"means nothing for MongoDB: leave it out"):
        cli.main(["prove", "mongodb", *option], standalone_mode=False)
