"""What PostgreSQL brings to `dbkeep prove`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from dbkeep.engines import declared_state
from dbkeep.environment import Environment
from dbkeep.errors import UsageError
from dbkeep.postgresql import read_declared
from dbkeep.postgresql.models import Context, Declared
from dbkeep.postgresql.prove import budget as budgets
from dbkeep.postgresql.prove import live, matrix, registry, server
from dbkeep.postgresql.prove.mutation import mutate
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.budget import Budget
from dbkeep.prove.matrix import Matrix
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Probe


class Engine:
    """As `dbkeep.prove.engine.Engine` says; the context of an environment is the one its inventory names."""

    title: ClassVar[str] = "PostgreSQL"
    options: ClassVar[tuple[str, ...]] = ("version", "context")

    def __init__(
        self,
        root: Path,
        environment: Environment | None,
        *,
        version: int | None = None,
        context: Context | None = None,
    ) -> None:
        if environment and (version or context):
            raise UsageError("--version and --context are for a throw-away server: leave them out, or leave out -e")
        self._root, self._version = root, version
        self._declared = _declared(root, environment) if environment else read_declared(root, context)

    def select(self, ids: Sequence[str]) -> tuple[Probe[World], ...]:
        return registry.select(ids)

    def budget(self) -> Budget:
        return budgets.read(self._root, self._declared, registry.ALL)

    @contextmanager
    def copy(self) -> Iterator[World]:
        with server.start(self._declared, version=self._version) as made, made.world() as world:
            yield world

    @contextmanager
    def live(self, environment: Environment) -> Iterator[World]:
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]  # variables of the person's shell must not stand in for what is left out on purpose
        with live.live(environment, self._declared) as world:
            yield world

    def observe(self, world: World) -> tuple[str, Matrix]:
        cells = list(matrix.observe(world))
        version = world.session(world.login_roles[0]).info.parameter_status("server_version") or ""
        return version, Matrix("relation", matrix.LEGEND, cells, list(matrix.findings(cells)))

    def mutate(
        self,
        probes: Sequence[Probe[Any]],
        budget: Budget,
        *,
        on_start: Callable[[int], None],
        on_outcome: Callable[[Outcome], None],
    ) -> tuple[Outcome, ...]:
        return mutate(
            self._declared, probes, budget, version=self._version, on_start=on_start, on_outcome=on_outcome
        )  # fmt: skip


def _declared(root: Path, environment: Environment) -> Declared:
    return Declared.model_validate(declared_state("postgresql", root, environment.variables))
