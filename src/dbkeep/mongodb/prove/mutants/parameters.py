"""Mutants of what an administrator can change while the server runs."""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.mongodb import statements
from dbkeep.mongodb.diff.access import ITERATIONS
from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant
from dbkeep.mongodb.prove.privileges import ADMINISTRATION
from dbkeep.mongodb.statements import Command

FEWER = 5000


def parameters(ground: Ground) -> Iterator[Mutant]:
    """Change each declared parameter, and the profiling level."""
    for parameter in ground.declared.server.parameters:
        value = parameter.value
        if isinstance(value, str | tuple):
            continue  # which other text the server takes follows from nothing that is declared
        other = not value if isinstance(value, bool) else FEWER if parameter.name == ITERATIONS else value + 1
        change, undo = (Command(ADMINISTRATION, {"setParameter": 1, parameter.name: one}) for one in (other, value))
        yield Mutant(f"{parameter.name} {other}", f"parameter: {parameter.name}", (change,), (undo,))
    level = ground.declared.server.profiling_level
    for other in {1, 2} - {level}:
        change = Command(ground.database, {"profile": other, "slowms": 0})
        undo = statements.set_profiling_level(ground.database, level)
        slow = Command(ground.database, {"profile": level, "slowms": 100})
        yield Mutant(f"profiling level {other}", "profiler", (change,), (undo, slow))
