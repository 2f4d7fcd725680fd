"""Every way to break a database that is as declared that we can derive from what is declared."""

from __future__ import annotations

from dbkeep.postgresql.prove.mutants import grants, objects, policies, roles
from dbkeep.postgresql.prove.mutants.mutant import Ground, Mutant, survey

__all__ = ["Ground", "Mutant", "generate", "survey"]

SOURCES = (
    policies.policies, policies.flags,
    grants.relations, grants.functions, grants.schemas, grants.databases, grants.defaults,
    objects.owners, objects.views, objects.functions, objects.triggers,
    roles.attributes, roles.memberships, roles.settings,
)  # fmt: skip


def generate(ground: Ground) -> tuple[Mutant, ...]:
    """Return the mutants in a fixed order, with names that differ. It grows with the declared state."""
    return tuple(mutant for source in SOURCES for mutant in source(ground))
