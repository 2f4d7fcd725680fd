"""What an engine brings to `dbkeep prove`: its probes, worlds to attack, its matrix, and its mutants."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from dbkeep.environment import Environment
from dbkeep.errors import UsageError
from dbkeep.prove.budget import Budget
from dbkeep.prove.matrix import Matrix
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Probe

NAMES = ("postgresql", "mongodb", "redis")
"""The engines that have a proof: each has a class Engine in dbkeep.NAME.prove.engine."""


class Engine(Protocol):
    """The proof of one engine, as declared in a checkout or for an environment.

    `options` are those of the command that mean something to the engine; they come as keywords when they are given.
    """

    title: ClassVar[str]
    options: ClassVar[tuple[str, ...]]

    def __init__(self, root: Path, environment: Environment | None, **options: Any) -> None:
        """Read the declared state. Raises DeclaredError."""

    def select(self, ids: Sequence[str]) -> tuple[Probe[Any], ...]:
        """Return the probes of those ids, or all without one. Raises UsageError for an unknown id."""
        ...

    def budget(self) -> Budget:
        """Return the leaks that are accepted. Raises DeclaredError."""
        ...

    def copy(self) -> AbstractContextManager[Any]:
        """A world on a throw-away server as declared. Raises UsageError when there is no program for one."""
        ...

    def live(self, environment: Environment) -> AbstractContextManager[Any]:
        """A world on the live server of the environment. Raises UsageError when it cannot be reached."""
        ...

    def observe(self, world: Any) -> tuple[str, Matrix]:
        """Return the server's version and the matrix; raises the world's errors."""
        ...

    def mutate(
        self,
        probes: Sequence[Probe[Any]],
        budget: Budget,
        *,
        on_start: Callable[[int], None],
        on_outcome: Callable[[Outcome], None],
    ) -> tuple[Outcome, ...]:
        """Return the outcome of every mutant. Raises DbkeepError as `dbkeep.prove.mutation.mutate` does."""
        ...


def load(name: str, root: Path, environment: Environment | None, options: Mapping[str, Any]) -> Engine:
    """Return the proof of the engine `name`; options that are None were not given.

    Raises UsageError when one is given that means nothing to the engine, DeclaredError for a wrong declared state.
    """
    kind: type[Engine] = importlib.import_module(f"dbkeep.{name}.prove.engine").Engine
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in kind.options:
            raise UsageError(f"--{option} means nothing for {kind.title}: leave it out")
    return kind(root, environment, **given)
