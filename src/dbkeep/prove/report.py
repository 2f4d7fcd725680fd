"""The outcome of a proof: the matrix, every probe's result, the leak budget and the mutation score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dbkeep.prove.budget import Budget, Unused
from dbkeep.prove.matrix import Matrix
from dbkeep.prove.probe import Finding, Probe, Result
from dbkeep.prove.score import Score


@dataclass(frozen=True, slots=True)
class Report:
    """`engine` is its title, `where` and `version` are the server's.

    `not_tried` are the probes that would leave something on a live server.

    `score` is None when nothing was mutated, and `why_not_mutated` says why.
    """

    engine: str
    where: str
    version: str
    matrix: Matrix
    results: Sequence[Result]
    budget: Budget
    not_tried: Sequence[Probe[Any]] = ()
    score: Score | None = None
    why_not_mutated: str = ""
    judge_unused: bool = field(default=True)

    @property
    def disagreements(self) -> Sequence[Finding]:
        return self.matrix.disagreements

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
            self.engine.lower(): self.version,
            "passed": self.passed,
            "matrix": [cell.as_json() for cell in self.matrix.cells],
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
            "notes": list(result.notes),
            "findings": [_finding(finding) for finding in beyond],
            "within_budget": [_finding(finding) for finding in result.findings if finding not in beyond],
        }


def _finding(finding: Finding) -> dict[str, str]:
    return {"role": finding.role, "target": finding.target, "observed": finding.observed, "leak": finding.leak}
