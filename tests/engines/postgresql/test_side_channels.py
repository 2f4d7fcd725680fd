"""The leak budget, and that each side-channel probe notices when more leaks than it accepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dbkeep.errors import DeclaredError
from dbkeep.postgresql import Declared
from dbkeep.postgresql.prove import budget as budgets
from dbkeep.postgresql.prove import registry, server
from dbkeep.prove.budget import Budget
from dbkeep.prove.probe import Result, run

ROOT = Path(__file__).parents[3]
SIDE_CHANNELS = ("P34", "P35", "P36", "P37", "P38", "P39", "P41", "P42", "P43", "P44")
REGRESSIONS = ("P45", "P46", "P47", "P48", "P49")
KNOWS_OF_ALL = """
CREATE OR REPLACE FUNCTION chat.can_see(other uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = '' AS 'SELECT EXISTS (SELECT FROM chat.users WHERE id = other)'
"""
ASKS_ITSELF = "CREATE POLICY again ON chat.users TO app_api USING ((SELECT count(*) FROM chat.users) > 0)"
# The probe, and a break that makes it leak beyond the budget.
BREAKS = {
    "P34": KNOWS_OF_ALL,
    "P37": "ALTER TABLE chat.settings DISABLE ROW LEVEL SECURITY",
    "P39": "CREATE SEQUENCE chat.counter; GRANT SELECT ON chat.counter TO app_api",
    "P41": "GRANT EXECUTE ON FUNCTION pg_catalog.lo_creat(integer) TO app_api",
    "P42": "ALTER POLICY own ON chat.settings USING (true); ALTER POLICY change_own ON chat.settings USING (true)",
    "P43": "ALTER POLICY own ON chat.settings USING (true)",
    "P45": "ALTER POLICY own_row ON chat.users USING (true)",
    "P48": "ALTER TABLE chat.users DISABLE ROW LEVEL SECURITY",
    "P49": ASKS_ITSELF,
}


@pytest.fixture(scope="module")
def prover(declared: Declared) -> Iterator[server.Server]:
    with server.start(declared) as started:
        yield started


@pytest.fixture(scope="module")
def budget(declared: Declared) -> Budget:
    return budgets.read(ROOT, declared, registry.ALL)


@pytest.fixture(scope="module")
def results(prover: server.Server) -> list[Result]:
    with prover.world() as world:
        return list(run(world, registry.select((*SIDE_CHANNELS, *REGRESSIONS))))


def test_nothing_leaks_beyond_the_budget(budget: Budget, results: list[Result]) -> None:
    assert [str(finding) for result in results for finding in budget.beyond(result)] == []
    assert [result.problem for result in results if result.problem] == []


def test_the_budget_holds_no_more_than_what_leaks(budget: Budget, results: list[Result]) -> None:
    assert list(map(str, budget.unused(results))) == []


def test_a_leak_that_is_not_in_the_budget_is_a_finding(budget: Budget, results: list[Result]) -> None:
    less = replace(budget, leaks={k: v for k, v in budget.leaks.items() if k != "table_sizes"})
    beyond = {(finding.probe, finding.role) for result in results for finding in less.beyond(result)}
    assert {probe for probe, _ in beyond} == {"P38"}
    leak = budget.leaks["table_sizes"]
    fewer = leak.model_copy(update={"roles": tuple(role for role in leak.roles if role != "app_api")})
    less = replace(budget, leaks={**budget.leaks, "table_sizes": fewer})
    beyond = {(finding.probe, finding.role) for result in results for finding in less.beyond(result)}
    assert beyond == {("P38", "app_api")}


@pytest.mark.parametrize("probe_id", BREAKS)
def test_probe_notices(probe_id: str, prover: server.Server, budget: Budget) -> None:
    with prover.world() as world:
        world.superuser().execute(BREAKS[probe_id].encode())
        (result,) = run(world, registry.select([probe_id]))
    assert budget.beyond(result) or result.problem


LEAK = "leaks:\n  sizes:\n    probe: {probe}\n    roles: [{role}]\n    what: {text}\n    why: {text}\n"
TEXT = "A sentence that says something"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            LEAK.format(probe="P38", role="app_ghost", text=TEXT),
            r"leak_budget\.yml:4: leaks\.sizes\.roles: role app_ghost",
        ),
        (LEAK.format(probe="P99", role="app_api", text=TEXT), r"leak_budget\.yml:3: leaks\.sizes\.probe: there is no"),
        (LEAK.format(probe="P38", role="app_api", text="so"), r"leak_budget\.yml:5: leaks\.sizes\.what: "),
        (LEAK.format(probe="P38", role="", text=TEXT), r"leak_budget\.yml:4: leaks\.sizes\.roles: "),
        ("leaks: {sizes: {}}", r"leak_budget\.yml:1: leaks\.sizes\.probe: Field required"),
        ("leaks: [", r"leak_budget\.yml:\d+: not valid YAML"),
        ("budget: {}", r"leak_budget\.yml:1: budget: Extra inputs"),
    ],
    ids=["unknown role", "unknown probe", "no reason", "no role", "empty", "no YAML", "unknown key"],
)
def test_a_wrong_budget_is_refused_by_line(content: str, message: str, tmp_path: Path, declared: Declared) -> None:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "leak_budget.yml").write_text(content, encoding="utf-8")
    with pytest.raises(DeclaredError, match=message):
        budgets.read(tmp_path, declared, registry.ALL)


def test_a_missing_budget_is_refused(tmp_path: Path, declared: Declared) -> None:
    with pytest.raises(DeclaredError, match=r"leak_budget\.yml: file is missing"):
        budgets.read(tmp_path, declared, registry.ALL)
