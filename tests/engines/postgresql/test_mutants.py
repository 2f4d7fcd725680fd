"""The probes are proved by breaking what they watch: every mutant is noticed, and one that is not is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dbkeep.errors import DbkeepError
from dbkeep.postgresql import Declared
from dbkeep.postgresql.prove import budget as budgets
from dbkeep.postgresql.prove import registry, server
from dbkeep.postgresql.prove.mutants import Mutant, generate, survey
from dbkeep.postgresql.prove.mutation import LATENT, mutate
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.budget import Budget
from dbkeep.prove.mutant import sample
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Finding, Probe
from dbkeep.prove.score import Score

ROOT = Path(__file__).parents[3]
LEAST = 150
# What mutants that reach beyond their copy can touch.
CLUSTER = """
SELECT ARRAY(SELECT r::text FROM pg_authid r ORDER BY oid),
       ARRAY(SELECT (to_jsonb(m) - 'oid')::text FROM pg_auth_members m ORDER BY 1),
       ARRAY(SELECT (setrole, setdatabase, one)::text FROM pg_db_role_setting, unnest(setconfig) AS one ORDER BY 1),
       ARRAY(SELECT coalesce(datacl, acldefault('d', datdba))::text FROM pg_database
             WHERE datname IN ('postgres', 'template1'))
"""


@pytest.fixture(scope="module")
def prover(declared: Declared) -> Iterator[server.Server]:
    with server.start(declared) as started:
        yield started


@pytest.fixture(scope="module")
def mutants(prover: server.Server, declared: Declared) -> tuple[Mutant, ...]:
    with prover.world() as world:
        return generate(survey(world.superuser(), declared))


@pytest.fixture(scope="module")
def budget(declared: Declared) -> Budget:
    return budgets.read(ROOT, declared, registry.ALL)


def test_there_are_many_and_each_is_another(mutants: tuple[Mutant, ...]) -> None:
    assert len(mutants) >= LEAST
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    statements = {tuple(statement.as_string(None) for statement in mutant.statements) for mutant in mutants}
    assert len(statements) == len(mutants)


def test_they_are_derived_from_every_declared_object(mutants: tuple[Mutant, ...], declared: Declared) -> None:
    names = [mutant.name for mutant in mutants]
    for policy in declared.policies:
        assert any("dropped" in name and f"{policy.name} on {policy.table}" in name for name in names)
    for table in declared.tables:
        assert f"row security disabled on {table}" in names
        assert f"row security not forced on {table}" in names
    for function in declared.functions:
        assert any(name.startswith(f"{function.name} open to PUBLIC") for name in names)
    for role in (name for name, role in declared.roles.items() if role.login):
        assert f"{role} SUPERUSER" in names


def test_every_mutant_changes_the_database_and_is_undone_outside_it(
    mutants: tuple[Mutant, ...], prover: server.Server
) -> None:
    with prover.world() as world:
        connection = world.superuser()
        before = connection.execute(CLUSTER).fetchone()
        for mutant in mutants:
            with connection.transaction(force_rollback=True):
                for statement in mutant.statements:
                    connection.execute(statement)
                changed = connection.execute(CLUSTER).fetchone() != before
                assert changed == mutant.cluster_wide, mutant.name
                for statement in mutant.undo:
                    connection.execute(statement)
                assert connection.execute(CLUSTER).fetchone() == before, mutant.name


def test_a_sample_has_every_kind(mutants: tuple[Mutant, ...]) -> None:
    chosen = sample(mutants, 40)
    assert {mutant.kind for mutant in chosen} == {mutant.kind for mutant in mutants}
    assert chosen == sample(mutants, 40)


def _survivors(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.mutant.name for outcome in Score(tuple(outcomes)).survivors]


def _left_to_catalogs(outcomes: Sequence[Outcome]) -> set[str]:
    """What an attempt should have noticed and only a catalog did."""
    return {outcome.mutant.kind for outcome in Score(tuple(outcomes)).by_catalog_only} - LATENT


def test_every_mutant_of_a_sample_is_caught(declared: Declared, budget: Budget) -> None:
    outcomes = mutate(declared, registry.ALL, budget, choose=lambda mutants: sample(mutants, 40))
    assert _survivors(outcomes) == []
    assert Score(outcomes).percent == 100
    assert _left_to_catalogs(outcomes) == set()


@pytest.mark.long
@pytest.mark.parametrize("version", [15, 17])
def test_every_mutant_is_caught(version: int, declared: Declared, budget: Budget) -> None:
    outcomes = mutate(declared, registry.ALL, budget, version=version)
    assert len(outcomes) >= LEAST
    assert _survivors(outcomes) == []
    assert _left_to_catalogs(outcomes) == set()


def test_survivors_are_told(declared: Declared, budget: Budget) -> None:
    harmless = registry.select(["P47"])
    outcomes = mutate(declared, harmless, budget, choose=lambda mutants: mutants[:4])
    assert _survivors(outcomes) == [outcome.mutant.name for outcome in outcomes]
    score = Score(outcomes)
    assert score.percent == 0
    assert "0 of 4 mutants caught" in score.line()
    assert all(outcome.planned for outcome in outcomes)


def test_a_probe_that_always_finds_something_proves_nothing(declared: Declared, budget: Budget) -> None:
    def finds(world: World) -> Iterator[Finding]:
        yield Finding(world.login_roles[0], "everything", "is wrong")

    with pytest.raises(DbkeepError, match=r"P00 does not pass before anything is broken: .* is wrong"):
        mutate(declared, [Probe("P00", "always", "read", (), True, False, finds)], budget)
