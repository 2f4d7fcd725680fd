"""What Redis brings to `dbkeep prove`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from dbkeep.environment import Environment
from dbkeep.prove import budget as budgets
from dbkeep.prove.budget import Budget, Leaks
from dbkeep.prove.matrix import Matrix
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Probe
from dbkeep.redis import read_declared
from dbkeep.redis.prove import live, matrix, registry, server
from dbkeep.redis.prove.mutation import mutate
from dbkeep.redis.prove.world import World

BUDGET = Path("redis/leak_budget.yml")


class Engine:
    """As `dbkeep.prove.engine.Engine` says."""

    title: ClassVar[str] = "Redis"
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: Path, environment: Environment | None) -> None:  # noqa: ARG002 - nothing depends on it
        self._root, self._declared = root, read_declared(root)

    def select(self, ids: Sequence[str]) -> tuple[Probe[World], ...]:
        return registry.select(ids)

    def budget(self) -> Budget:
        return budgets.read(
            self._root, BUDGET, model=Leaks, roles=self._declared.acl.users, declared_in="redis/acl.yml",
            probes=registry.ALL,
        )  # fmt: skip

    @contextmanager
    def copy(self) -> Iterator[World]:
        with server.start(self._declared) as world:
            yield world

    @contextmanager
    def live(self, environment: Environment) -> Iterator[World]:
        with live.live(environment, self._declared) as world:
            yield world

    def observe(self, world: World) -> tuple[str, Matrix]:
        cells = list(matrix.observe(world))
        versions = {".".join(map(str, world.version(instance))) for instance in world.instances}
        disagreements = list(matrix.findings(cells))
        return ", ".join(sorted(versions)), Matrix("kind of key", matrix.LEGEND, cells, disagreements)

    def mutate(
        self,
        probes: Sequence[Probe[Any]],
        budget: Budget,
        *,
        on_start: Callable[[int], None],
        on_outcome: Callable[[Outcome], None],
    ) -> tuple[Outcome, ...]:
        return mutate(self._declared, probes, budget, on_start=on_start, on_outcome=on_outcome)
