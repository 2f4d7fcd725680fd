"""What a mutation run says about the probes: the score, by what each kind was caught, and what survived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import CATALOG


@dataclass(frozen=True, slots=True)
class Kind:
    """One line of the score: how many mutants of a kind there were and what noticed them."""

    name: str
    mutants: int
    by_attempt: int
    by_catalog_only: int
    survived: int
    named_by_plan: int


@dataclass(frozen=True, slots=True)
class Score:
    """The plan's part is told beside and decides nothing."""

    outcomes: tuple[Outcome, ...]

    @property
    def survivors(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.caught is None)

    @property
    def by_catalog_only(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.how == CATALOG)

    @property
    def percent(self) -> float:
        """Return the share that was caught. It is 100 only when all were: it is rounded down."""
        if not self.outcomes:
            return 0.0
        caught = len(self.outcomes) - len(self.survivors)
        return 1000 * caught // len(self.outcomes) / 10

    def kinds(self) -> tuple[Kind, ...]:
        names = dict.fromkeys(outcome.mutant.kind for outcome in self.outcomes)
        return tuple(_kind(name, [o for o in self.outcomes if o.mutant.kind == name]) for name in names)

    def line(self) -> str:
        """Return the score in one line."""
        caught = len(self.outcomes) - len(self.survivors)
        named = sum(outcome.planned for outcome in self.outcomes)
        return (
            f"{caught} of {len(self.outcomes)} mutants caught: mutation score {self.percent:g} %"
            f" ({len(self.by_catalog_only)} by catalog controls only; the plan names {named})"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "score": self.percent,
            "survivors": [outcome.mutant.name for outcome in self.survivors],
            "mutants": [_shown(outcome) for outcome in self.outcomes],
        }


def _kind(name: str, outcomes: Sequence[Outcome]) -> Kind:
    hows = [outcome.how for outcome in outcomes]
    return Kind(
        name, len(outcomes), hows.count("attempt"), hows.count(CATALOG), hows.count("survived"),
        sum(outcome.planned for outcome in outcomes),
    )  # fmt: skip


def _shown(outcome: Outcome) -> dict[str, Any]:
    caught = outcome.caught
    return {
        "name": outcome.mutant.name,
        "kind": outcome.mutant.kind,
        "statements": outcome.mutant.shown,
        "how": outcome.how,
        "caught_by": caught.probe.id if caught else None,
        "observed": (caught.problem or [str(finding) for finding in caught.findings][:3]) if caught else None,
        "named_by_plan": outcome.planned,
    }
