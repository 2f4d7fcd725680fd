"""The probes are proved by breaking what they watch: every mutant is noticed, and one that is not is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dbkeep import redis as engine
from dbkeep.errors import DbkeepError
from dbkeep.prove.budget import Budget
from dbkeep.prove.mutant import sample
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Finding, Probe
from dbkeep.prove.score import Score
from dbkeep.redis.prove import reach, registry, server
from dbkeep.redis.prove.engine import Engine
from dbkeep.redis.prove.mutants import LATENT, Mutant, generate
from dbkeep.redis.prove.mutation import mutate
from dbkeep.redis.prove.world import World
from dbkeep.sandbox.redis import Program

from .conftest import SERVERS

ROOT = Path(__file__).parents[3]
LEAST = 80
QUICK = 30


@pytest.fixture(scope="module")
def mutants(declared: engine.Declared) -> tuple[Mutant, ...]:
    with server.start(declared) as world:
        return generate(world)


@pytest.fixture(scope="module")
def budget() -> Budget:
    return Engine(ROOT, None).budget()


def test_there_are_many_and_each_is_another(mutants: tuple[Mutant, ...]) -> None:
    assert len(mutants) >= LEAST
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    assert len({tuple(mutant.shown) for mutant in mutants}) == len(mutants)


def test_they_are_derived_from_every_declared_user_key_setting_and_library(
    mutants: tuple[Mutant, ...], declared: engine.Declared
) -> None:
    names = [mutant.name for mutant in mutants]
    for instance, entry in declared.instances.instances.items():
        for user in declared.acl.users:
            if user == "admin" or not reach.grants_of(declared, user, instance):
                continue
            for rule in ("nopass", "off", "+@all", "+eval", ">probe", "(~* +get)"):
                assert f"{instance} {user} {rule}" in names
            for grant in reach.grants_of(declared, user, instance):
                assert not grant.readwrite or f"{instance} {user} ~*" in names
        for name in ("maxmemory 0", "maxmemory-policy", "tls-protocols", "sanitize-dump-payload", "port (open)"):
            assert any(one.startswith(f"{instance} {name}") for one in names), name
        for library in entry.functions:
            assert f"{instance} {library} lets everything through" in names


def _survivors(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.mutant.name for outcome in Score(tuple(outcomes)).survivors]


def _left_to_catalogs(outcomes: Sequence[Outcome]) -> set[str]:
    """What an attempt should have noticed and only a catalog did."""
    return {outcome.mutant.kind for outcome in Score(tuple(outcomes)).by_catalog_only} - LATENT


def test_every_mutant_of_a_sample_is_caught(declared: engine.Declared, budget: Budget) -> None:
    outcomes = mutate(declared, registry.ALL, budget, choose=lambda mutants: sample(mutants, QUICK))
    assert _survivors(outcomes) == []
    assert Score(outcomes).percent == 100
    assert _left_to_catalogs(outcomes) == set()
    assert all(outcome.planned for outcome in outcomes)


@pytest.mark.long
@pytest.mark.parametrize("name", SERVERS)
def test_every_mutant_is_caught(
    name: str, programs: dict[str, Program], declared: engine.Declared, budget: Budget
) -> None:
    outcomes = mutate(declared, registry.ALL, budget, program=programs[name])
    assert len(outcomes) >= LEAST
    assert _survivors(outcomes) == []
    assert _left_to_catalogs(outcomes) == set()


def test_survivors_are_told(declared: engine.Declared, budget: Budget) -> None:
    harmless = registry.select(["P42"])
    outcomes = mutate(declared, harmless, budget, choose=lambda mutants: mutants[:3])
    assert _survivors(outcomes) == [outcome.mutant.name for outcome in outcomes]
    score = Score(outcomes)
    assert score.percent == 0
    assert "0 of 3 mutants caught" in score.line()


def test_a_probe_that_always_finds_something_proves_nothing(declared: engine.Declared, budget: Budget) -> None:
    def finds(world: World) -> Iterator[Finding]:
        yield Finding(world.users("state")[0], "everything", "is wrong")

    with pytest.raises(DbkeepError, match=r"P00 does not pass before anything is broken: .* is wrong"):
        mutate(declared, [Probe("P00", "always", "keys", (), live=True, slow=False, ask=finds)], budget)
