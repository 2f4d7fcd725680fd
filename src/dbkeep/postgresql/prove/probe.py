"""What a probe is, how one is written, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace

import psycopg

from dbkeep.postgresql.connect import one_line
from dbkeep.postgresql.prove.world import World

Ask = Callable[[World], Iterator["Finding"]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. `target` is a table, column, function or command; `observed` is what happened.

    `leak` names the entry of the leak budget that the finding falls under, when there can be one.
    """

    role: str
    target: str
    observed: str
    leak: str = ""
    probe: str = ""

    def __str__(self) -> str:
        return f"{self.probe} {self.role} {self.target}: {self.observed}"


class CannotTell(Exception):  # noqa: N818 - a state, not an error of the program
    """The probe could not really try: nothing there to hide, own rows not visible, a program missing."""


@dataclass(frozen=True, slots=True)
class Probe:
    """`live` tells whether it may run on a live server: it leaves nothing behind there and takes nothing away."""

    id: str
    title: str
    area: str
    sources: tuple[str, ...]
    live: bool
    slow: bool
    ask: Ask


@dataclass(frozen=True, slots=True)
class Result:
    """`problem` says why the probe could not tell; with one, no finding means nothing."""

    probe: Probe
    findings: tuple[Finding, ...]
    problem: str | None
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.findings and self.problem is None


PROBES: dict[str, Probe] = {}


def probe(
    probe_id: str, title: str, *, area: str, sources: tuple[str, ...], live: bool = True, slow: bool = False
) -> Callable[[Ask], Ask]:
    """Register a function as a probe. `slow` ones repeat what faster ones find, many times at once."""

    def register(ask: Ask) -> Ask:
        if probe_id in PROBES:
            raise ValueError(f"two probes are called {probe_id}")
        PROBES[probe_id] = Probe(probe_id, title, area, sources, live, slow, ask)
        return ask

    return register


def require(condition: object, message: str) -> None:
    """End the probe with CannotTell unless the condition holds, without which the rest would prove nothing."""
    if not condition:
        raise CannotTell(message)


def run(
    world: World, probes: Iterable[Probe], *, enough: Callable[[Finding], bool] = lambda _: False
) -> Iterator[Result]:
    """Ask each probe about `world` and yield its result as soon as it is there.

    A probe tries no more after a finding that is `enough`.
    """
    for asked in probes:
        yield _ask(world, asked, enough)


def _ask(world: World, asked: Probe, enough: Callable[[Finding], bool]) -> Result:
    started = time.monotonic()
    findings: list[Finding] = []
    problem = None
    found = asked.ask(world)
    try:
        for finding in found:
            findings.append(replace(finding, probe=asked.id))
            if enough(findings[-1]):
                break
    except CannotTell as error:
        problem = str(error)
    except psycopg.Error as error:
        problem = f"{type(error).__name__}: {one_line(error)}"
    finally:
        # A probe that was not asked to its end still ends its transactions.
        if isinstance(found, Generator):
            found.close()
    return Result(asked, tuple(findings), problem, time.monotonic() - started)
