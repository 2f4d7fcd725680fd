"""Every way to break a server that is as declared that we can derive from what is declared."""

from __future__ import annotations

from dbkeep.mongodb.prove.mutants import access, collections, indexes, parameters, startup, validators, views
from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant

__all__ = ["Ground", "Mutant", "generate"]

SOURCES = (
    validators.schemas, validators.rules, validators.validation,
    indexes.indexes, collections.collections, views.views,
    access.widened, access.narrowed, access.inherited, access.users, access.passwords,
    parameters.parameters, startup.startup,
)  # fmt: skip


def generate(ground: Ground) -> tuple[Mutant, ...]:
    """Return the mutants in a fixed order, with names that differ. It grows with the declared state."""
    return tuple(mutant for source in SOURCES for mutant in source(ground))
