"""The probes are proved by breaking what they watch: every mutant is noticed, and one that is not is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dbkeep import mongodb as engine
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.inspect import Live, inspect
from dbkeep.mongodb.json_schema import field_paths
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.models import Collection, View
from dbkeep.mongodb.prove import budget as budgets
from dbkeep.mongodb.prove import registry, server
from dbkeep.mongodb.prove.mutants import Mutant
from dbkeep.mongodb.prove.mutation import LATENT, Breaker, mutate
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.budget import Budget
from dbkeep.prove.mutant import sample
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Finding, Probe
from dbkeep.prove.score import Score

ROOT = Path(__file__).parents[3]
LEAST = 500
# What no attempt can show of a schema, because a rule forbids it too.
IN_A_RULE = "schema, and a rule"


@pytest.fixture(scope="module")
def prover(declared: engine.Declared) -> Iterator[server.Server]:
    with server.start(declared) as started:
        yield started


@pytest.fixture(scope="module")
def breaker(prover: server.Server) -> Iterator[Breaker]:
    with Breaker(prover) as made:
        yield made


@pytest.fixture(scope="module")
def mutants(breaker: Breaker) -> tuple[Mutant, ...]:
    with breaker.whole() as world:
        return breaker.mutants(world)


@pytest.fixture(scope="module")
def budget(declared: engine.Declared) -> Budget:
    return budgets.read(ROOT, declared, registry.ALL)


def test_there_are_many_and_each_is_another(mutants: tuple[Mutant, ...]) -> None:
    assert len(mutants) >= LEAST
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    assert len({str((mutant.commands, mutant.startup)) for mutant in mutants}) == len(mutants)


def test_they_are_derived_from_every_declared_object(mutants: tuple[Mutant, ...], declared: engine.Declared) -> None:
    names = [mutant.name for mutant in mutants]
    for collection in declared.collections:
        assert f"{collection.name}: action warn" in names
        for field, part in collection.json_schema["properties"].items():
            assert f"{collection.name}.{field}: {'one value more' if 'enum' in part else 'null too'}" in names
        for rule in collection.rules:
            assert f"{collection.name}: without the rule that {rule.why}" in names
            assert list(field_paths(rule.expr))
        for index in collection.indexes:
            assert f"{collection.name}.{index.name}: dropped" in names
    for role in declared.roles:
        assert f"{role.name}: inherits root of admin" in names
    for user in declared.users:
        assert f"{user.name}: without its role" in names
    for parameter in declared.server.parameters:
        assert any(name.startswith(f"{parameter.name} ") for name in names)


def _live(world: World, prover: server.Server) -> Live:
    parameters = [parameter.name for parameter in world.declared.server.parameters]
    return inspect(world.administrator(), prover.settings, {}, parameters)


def test_every_mutant_changes_the_server_and_is_undone(
    mutants: tuple[Mutant, ...], breaker: Breaker, prover: server.Server
) -> None:
    with breaker.whole() as world:
        before = str(_live(world, prover))
    for mutant in sample([one for one in mutants if one.startup is None and "password" not in one.kind], 120):
        with breaker.broken(mutant) as world:
            assert str(_live(world, prover)) != before, mutant.name
    with breaker.whole() as world:
        after = _live(world, prover)
    assert engine.plan(prover.settings, prover.declared, prover.passwords).changes == ()
    parts: tuple[Collection | View, ...] = (*prover.declared.collections, *prover.declared.views)
    assert after.collections.keys() == {RECORDS, *(part.name for part in parts)}
    assert len(after.users) == len(prover.declared.users)


def test_a_sample_has_every_kind(mutants: tuple[Mutant, ...]) -> None:
    chosen = sample(mutants, 40)
    assert {mutant.kind for mutant in chosen} == {mutant.kind for mutant in mutants}
    assert chosen == sample(mutants, 40)


def _survivors(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.mutant.name for outcome in Score(tuple(outcomes)).survivors]


def _left_to_catalogs(outcomes: Sequence[Outcome]) -> set[str]:
    """What an attempt should have noticed and only a catalog did."""
    kinds = {outcome.mutant.kind for outcome in Score(tuple(outcomes)).by_catalog_only} - LATENT
    return {kind for kind in kinds if not kind.startswith(IN_A_RULE)}


def _quick(mutants: Sequence[Mutant]) -> Sequence[Mutant]:
    """Of every kind one but of how the server starts, which takes two restarts."""
    slow = ("startup", "index: an hour later", "index: never", "parameter: ttlMonitorEnabled")
    return sample([mutant for mutant in mutants if not mutant.kind.startswith(slow)], 40)


def test_every_mutant_of_a_sample_is_caught(declared: engine.Declared, budget: Budget) -> None:
    outcomes = mutate(declared, registry.ALL, budget, choose=_quick)
    assert _survivors(outcomes) == []
    assert Score(outcomes).percent == 100
    assert _left_to_catalogs(outcomes) == set()


@pytest.mark.long
def test_every_mutant_is_caught(declared: engine.Declared, budget: Budget) -> None:
    outcomes = mutate(declared, registry.ALL, budget)
    assert len(outcomes) >= LEAST
    assert _survivors(outcomes) == []
    assert _left_to_catalogs(outcomes) == set()


def test_survivors_are_told(declared: engine.Declared, budget: Budget) -> None:
    outcomes = mutate(declared, registry.select(["P25"]), budget, choose=lambda mutants: mutants[:4])
    assert _survivors(outcomes) == [outcome.mutant.name for outcome in outcomes]
    assert Score(outcomes).percent == 0
    assert all(outcome.planned for outcome in outcomes)


def test_a_probe_that_always_finds_something_proves_nothing(declared: engine.Declared, budget: Budget) -> None:
    def finds(world: World) -> Iterator[Finding]:
        yield Finding(world.users[0], "everything", "is wrong")

    with pytest.raises(DbkeepError, match=r"P00 does not pass before anything is broken: .* is wrong"):
        mutate(declared, [Probe("P00", "always", "read", (), True, False, finds)], budget)
