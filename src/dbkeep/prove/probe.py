"""What a probe is, how one is written, and how they are run."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from dbkeep.errors import UsageError

# Probes of this area read catalogs; all others attempt what they are about.
CATALOG = "catalog"


class World(Protocol):
    """What the probes of an engine attack: servers as declared, and real connections to them as real roles.

    `first` are names of what to try before the rest, where a probe has a choice. `errors` are what the driver raises
    when a probe cannot try; anything else is a mistake of the probe.
    """

    @property
    def first(self) -> frozenset[str]: ...
    @property
    def errors(self) -> tuple[type[Exception], ...]: ...
    def describe(self, error: Exception) -> str:
        """Return one of the `errors` as one line."""
        ...


W = TypeVar("W", bound=World)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. `target` is an object or a command; `observed` is what happened.

    `leak` names the entry of the leak budget that the finding falls under, when there can be one.
    """

    role: str
    target: str
    observed: str
    leak: str = ""
    probe: str = ""

    def __str__(self) -> str:
        return f"{self.probe} {self.role} {self.target}: {self.observed}"


@dataclass(frozen=True, slots=True)
class Note:
    """What a probe tried, in words: a count that the report shows, no matter how it ended."""

    text: str


class CannotTell(Exception):  # noqa: N818 - a state, not an error of the program
    """The probe could not really try: nothing there to hide, own rows not visible, a program missing."""


Ask = Callable[[W], Iterator[Finding | Note]]


@dataclass(frozen=True, slots=True)
class Probe(Generic[W]):
    """`live` tells whether it may run on a live server: it leaves nothing behind there and takes nothing away."""

    id: str
    title: str
    area: str
    sources: tuple[str, ...]
    live: bool
    slow: bool
    ask: Ask[W]


@dataclass(frozen=True, slots=True)
class Result:
    """`problem` says why the probe could not tell; with one, no finding means nothing."""

    probe: Probe[Any]
    findings: tuple[Finding, ...]
    problem: str | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.findings and self.problem is None


class Registry(Generic[W]):
    """The probes of one engine, by their ids."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe[W]] = {}

    def probe(
        self, probe_id: str, title: str, *, area: str, sources: tuple[str, ...], live: bool = True, slow: bool = False
    ) -> Callable[[Ask[W]], Ask[W]]:
        """Register a function as a probe. `slow` ones repeat what faster ones find, many times at once."""

        def register(ask: Ask[W]) -> Ask[W]:
            if probe_id in self._probes:
                raise ValueError(f"two probes are called {probe_id}")
            self._probes[probe_id] = Probe(probe_id, title, area, sources, live, slow, ask)
            return ask

        return register

    def load(self, package: ModuleType) -> tuple[Probe[W], ...]:
        """Import every module of a package, which registers its probes, and return all probes."""
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
        return self.select([])

    def select(self, ids: Sequence[str]) -> tuple[Probe[W], ...]:
        """Return the probes of those ids in their order, or all without one. Raises UsageError for an unknown id."""
        unknown = [name for name in ids if name not in self._probes]
        if unknown:
            raise UsageError(f"no probe is called {unknown[0]}: there are {', '.join(sorted(self._probes))}")
        return tuple(self._probes[key] for key in sorted(ids or self._probes))


def require(condition: object, message: str) -> None:
    """End the probe with CannotTell unless the condition holds, without which the rest would prove nothing."""
    if not condition:
        raise CannotTell(message)


def run(
    world: W, probes: Iterable[Probe[W]], *, enough: Callable[[Finding], bool] = lambda _: False
) -> Iterator[Result]:
    """Ask each probe about `world` and yield its result as soon as it is there.

    A probe tries no more after a finding that is `enough`.
    """
    for asked in probes:
        yield _ask(world, asked, enough)


def _ask(world: W, asked: Probe[W], enough: Callable[[Finding], bool]) -> Result:
    started = time.monotonic()
    findings: list[Finding] = []
    notes: list[str] = []
    problem = None
    told = asked.ask(world)
    try:
        for one in told:
            if isinstance(one, Note):
                notes.append(one.text)
                continue
            findings.append(replace(one, probe=asked.id))
            if enough(findings[-1]):
                break
    except CannotTell as error:
        problem = str(error)
    except world.errors as error:
        problem = f"{type(error).__name__}: {world.describe(error)}"
    finally:
        # A probe that was not asked to its end still ends its transactions.
        if isinstance(told, Generator):
            told.close()
    return Result(asked, tuple(findings), problem, time.monotonic() - started, tuple(notes))
