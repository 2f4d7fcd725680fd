"""What a proof of any engine would complain about."""

from __future__ import annotations

from collections.abc import Sequence

from dbkeep.prove.budget import Budget
from dbkeep.prove.probe import Result


def complaints(results: Sequence[Result], budget: Budget) -> list[str]:
    """Return the findings that the budget does not allow, and why a probe could not try."""
    found = [str(finding) for result in results for finding in budget.beyond(result)]
    return found + [f"{result.probe.id}: {result.problem}" for result in results if result.problem]
