"""The leak budget of MongoDB: what is learned without a right, by users and by whoever does not log on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbkeep.mongodb.models import Declared
from dbkeep.mongodb.prove.probes.authentication import ANYBODY
from dbkeep.mongodb.prove.world import World
from dbkeep.prove import budget as budgets
from dbkeep.prove.budget import Budget, Leaks
from dbkeep.prove.probe import Probe

FILE = Path("mongo/leak_budget.yml")


def read(root: Path, declared: Declared, probes: Sequence[Probe[World]]) -> Budget:
    """Return the leak budget under `root`. Raises DeclaredError."""
    roles = {user.name for user in declared.users} | {ANYBODY}
    return budgets.read(root, FILE, model=Leaks, roles=roles, declared_in="mongo/roles.yml", probes=probes)
