"""Every way to break a database that is as declared that we can derive from what is declared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from dbkeep.postgresql.prove.mutants import grants, objects, policies, roles
from dbkeep.postgresql.prove.mutants.mutant import Ground, Mutant, survey

__all__ = ["Ground", "Mutant", "generate", "sample", "survey"]

SOURCES = (
    policies.policies, policies.flags,
    grants.relations, grants.functions, grants.schemas, grants.databases, grants.defaults,
    objects.owners, objects.views, objects.functions, objects.triggers,
    roles.attributes, roles.memberships, roles.settings,
)  # fmt: skip


def generate(ground: Ground) -> tuple[Mutant, ...]:
    """Return the mutants in a fixed order, with names that differ. It grows with the declared state."""
    return tuple(mutant for source in SOURCES for mutant in source(ground))


def sample(mutants: Iterable[Mutant], size: int) -> tuple[Mutant, ...]:
    """Return about `size` mutants, at least one of every kind and the same ones each time."""
    kinds: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        kinds[mutant.kind].append(mutant)
    each = max(1, size // len(kinds))
    # The middle of a kind, because its first ones are those that are tried most while a probe is written.
    return tuple(one for some in kinds.values() for one in some[len(some) // 2 :][:each])
