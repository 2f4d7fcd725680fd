"""Change, Plan and the only loop that executes one.

Dry run, check mode, drift, CI and apply all look at the same Plan: a pure diff makes it, `apply` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dbkeep.errors import DbkeepError


class Risk(StrEnum):
    """What running a change may cost the running system."""

    SAFE = "safe"
    LOCKING = "locking"
    REWRITING = "rewriting"
    DESTRUCTIVE = "destructive"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between declared and live.

    `before`, `after` and `statement` are shown to people and written to evidence: they never hold a secret.
    `operation` is what the engine executes and may hold one, so it is left out of every rendering.
    `refused` says why the change must not run at all (existing data breaks it, a restart is not allowed, ...).
    `waits_for` says what must come first for the change to run; unlike a refused one, it keeps no other from running.
    """

    engine: str
    kind: str
    target: str
    summary: str
    statement: str
    operation: Any = field(repr=False, compare=False)
    before: Any = None
    after: Any = None
    risk: Risk = Risk.SAFE
    refused: str | None = None
    waits_for: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "kind": self.kind,
            "target": self.target,
            "summary": self.summary,
            "statement": self.statement,
            "before": self.before,
            "after": self.after,
            "risk": self.risk.value,
            "refused": self.refused,
            "waits_for": self.waits_for,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered list of changes of one engine; empty means converged."""

    engine: str
    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def as_json(self) -> dict[str, Any]:
        return {"engine": self.engine, "changes": [change.as_json() for change in self.changes]}


class ApplyError(DbkeepError):
    """A change failed or may not run. `applied` are the changes that are in place."""

    def __init__(self, message: str, applied: tuple[Change, ...] = ()) -> None:
        super().__init__(message)
        self.applied = applied


def hold_back(plan: Plan, *, allow_destructive: bool) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Split a plan into the changes that may run and those that must wait, such as for `--allow-destructive`."""
    held = [bool(c.waits_for) or (c.risk is Risk.DESTRUCTIVE and not allow_destructive) for c in plan]
    return (
        tuple(c for c, waits in zip(plan, held, strict=True) if not waits),
        tuple(c for c, waits in zip(plan, held, strict=True) if waits),
    )


def apply(
    plan: Plan,
    execute: Callable[[Change], None],
    *,
    allow_destructive: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Run every change of `plan` in order through `execute` and return the changes made.

    Destructive changes run only with `allow_destructive`; they and those that wait are left for the next plan to show
    again.

    Raises ApplyError before the first change if any change is refused, and at the first change that fails.
    """
    refused = [c for c in plan if c.refused]
    if refused:
        raise ApplyError("; ".join(f"{c.engine} {c.kind} {c.target}: {c.refused}" for c in refused))
    runnable, _ = hold_back(plan, allow_destructive=allow_destructive)
    applied: list[Change] = []
    for change in runnable:
        try:
            execute(change)
        except DbkeepError as error:
            raise ApplyError(f"{change.engine} {change.kind} {change.target}: {error}", tuple(applied)) from error
        applied.append(change)
        on_change(change)
    return tuple(applied)
