"""A mutant: one way to break a server that is as declared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Mutant(Protocol):
    """`about` are the roles and objects that it is about: what an attack on it would try first."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def about(self) -> frozenset[str]: ...
    @property
    def shown(self) -> list[str]:
        """What breaks the server, as the evidence keeps it."""
        ...


M = TypeVar("M", bound=Mutant)


def sample(mutants: Iterable[M], size: int) -> tuple[M, ...]:
    """Return about `size` mutants, at least one of every kind and the same ones each time."""
    kinds: dict[str, list[M]] = defaultdict(list)
    for mutant in mutants:
        kinds[mutant.kind].append(mutant)
    each = max(1, size // len(kinds))
    # The middle of a kind, because its first ones are those that are tried most while a probe is written.
    return tuple(one for some in kinds.values() for one in some[len(some) // 2 :][:each])
