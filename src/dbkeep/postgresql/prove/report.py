"""The outcome of a proof: the matrix, every probe's result, the leak budget and the mutation score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dbkeep.postgresql.prove import matrix
from dbkeep.postgresql.prove.budget import Budget, Unused
from dbkeep.postgresql.prove.matrix import Cell
from dbkeep.postgresql.prove.probe import Finding, Probe, Result
from dbkeep.postgresql.prove.score import Score


@dataclass(frozen=True, slots=True)
class Report:
    """`where` and `version` are the server's; `not_tried` are the probes that would leave something on a live server.

    `score` is None when nothing was mutated, and `why_not_mutated` says why.
    """

    where: str
    version: str
    cells: Sequence[Cell]
    results: Sequence[Result]
    budget: Budget
    not_tried: Sequence[Probe] = ()
    score: Score | None = None
    why_not_mutated: str = ""
    judge_unused: bool = field(default=True)

    @property
    def disagreements(self) -> list[Finding]:
        return list(matrix.findings(self.cells))

    @property
    def unused(self) -> tuple[Unused, ...]:
        return self.budget.unused(self.results) if self.judge_unused else ()

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results if self.budget.failed(result)]

    @property
    def passed(self) -> bool:
        """Whether nothing was found beyond the budget, every probe could tell, and every mutant was caught.

        A leak of the budget that is gone is told of, and no failure.
        """
        found = self.failed or self.disagreements
        return not found and (self.score is None or self.score.percent == 100)

    def observed(self, leak: str) -> list[str]:
        """Return the roles that were seen to leak what the entry of the budget names."""
        return sorted({finding.role for result in self.results for finding in result.findings if finding.leak == leak})

    def as_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "postgresql": self.version,
            "passed": self.passed,
            "matrix": [_cell(cell) for cell in self.cells],
            "disagreements": [str(finding) for finding in self.disagreements],
            "probes": [self._probe(result) for result in self.results],
            "not_tried": [probe.id for probe in self.not_tried],
            "leak_budget": {
                name: {"declared": list(leak.roles), "observed": self.observed(name)}
                for name, leak in self.budget.leaks.items()
            },
            "unused": [str(unused) for unused in self.unused],
            "mutation": self.score.as_json() if self.score else None,
            "not_mutated": self.why_not_mutated or None,
        }

    def _probe(self, result: Result) -> dict[str, Any]:
        beyond = self.budget.beyond(result)
        return {
            "id": result.probe.id,
            "title": result.probe.title,
            "area": result.probe.area,
            "sources": list(result.probe.sources),
            "seconds": round(result.seconds, 3),
            "problem": result.problem,
            "findings": [_finding(finding) for finding in beyond],
            "within_budget": [_finding(finding) for finding in result.findings if finding not in beyond],
        }


def _finding(finding: Finding) -> dict[str, str]:
    return {"role": finding.role, "target": finding.target, "observed": finding.observed, "leak": finding.leak}


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "role": cell.role,
        "relation": cell.relation,
        "privilege": cell.privilege,
        "declared": sorted(cell.declared),
        "granted": sorted(cell.granted),
        "observed": None if cell.observed is None else sorted(cell.observed),
        "declared_policies": sorted(cell.declared_policies),
        "live_policies": sorted(cell.live_policies),
    }
