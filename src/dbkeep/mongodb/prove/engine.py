"""What MongoDB brings to `dbkeep prove`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from dbkeep.engines import declared_state
from dbkeep.environment import Environment
from dbkeep.mongodb.models import Declared
from dbkeep.mongodb.prove import budget as budgets
from dbkeep.mongodb.prove import live, matrix, registry, server
from dbkeep.mongodb.prove.mutation import mutate
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.budget import Budget
from dbkeep.prove.matrix import Matrix
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Probe


class Engine:
    """As `dbkeep.prove.engine.Engine` says."""

    title: ClassVar[str] = "MongoDB"
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: Path, environment: Environment | None) -> None:
        self._root = root
        variables = environment.variables if environment else {}
        self._declared = Declared.model_validate(declared_state("mongodb", root, variables))

    def select(self, ids: Sequence[str]) -> tuple[Probe[World], ...]:
        return registry.select(ids)

    def budget(self) -> Budget:
        return budgets.read(self._root, self._declared, registry.ALL)

    @contextmanager
    def copy(self) -> Iterator[World]:
        with server.start(self._declared) as made, made.world() as world:
            yield world

    def live(self, environment: Environment) -> AbstractContextManager[World]:
        return live.live(environment, self._declared)

    def observe(self, world: World) -> tuple[str, Matrix]:
        cells = list(matrix.observe(world))
        version = world.client(None).admin.command("buildInfo")["version"]
        return version, Matrix("target", matrix.LEGEND, cells, list(matrix.findings(cells)), in_words=True)

    def mutate(
        self,
        probes: Sequence[Probe[Any]],
        budget: Budget,
        *,
        on_start: Callable[[int], None],
        on_outcome: Callable[[Outcome], None],
    ) -> tuple[Outcome, ...]:
        return mutate(self._declared, probes, budget, on_start=on_start, on_outcome=on_outcome)
