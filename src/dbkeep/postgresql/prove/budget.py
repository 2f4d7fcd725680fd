"""The leak budget of PostgreSQL: which of its leaks are accepted depends on the application's context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from dbkeep.postgresql.models import Context, Declared, Name
from dbkeep.postgresql.prove.world import World
from dbkeep.prove import budget as budgets
from dbkeep.prove.budget import Budget
from dbkeep.prove.probe import Probe

FILE = Path("sql/leak_budget.yml")


class Leak(budgets.Leak):
    """One of a `context` is accepted only where the application's context is of that kind."""

    context: Context | None = None


class Leaks(budgets.Leaks):
    leaks: Mapping[Name, Leak] = Field(default={})


def read(root: Path, declared: Declared, probes: Sequence[Probe[World]]) -> Budget:
    """Return the leak budget under `root` for the declared context. Raises DeclaredError."""
    budget = budgets.read(root, FILE, model=Leaks, roles=declared.roles, declared_in="sql/roles.yml", probes=probes)
    accepted = {
        name: leak
        for name, leak in budget.leaks.items()
        if isinstance(leak, Leak) and leak.context in (None, declared.scope.context)
    }
    return replace(budget, leaks=accepted)
