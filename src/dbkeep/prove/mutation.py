"""Breaks servers in every way that mutants know, one at a time, and asks the probes whether they notice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from dbkeep.errors import DbkeepError
from dbkeep.prove.budget import Budget
from dbkeep.prove.mutant import M, Mutant
from dbkeep.prove.probe import CATALOG, Probe, Result, W, run

Named = frozenset[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What noticed a mutant: the result of the first probe that did not pass, or None for a survivor.

    `planned` tells whether the plan names what the mutant changed. It does not decide about survival.
    """

    mutant: Mutant
    caught: Result | None
    planned: bool

    @property
    def how(self) -> str:
        """Return "attempt", "catalog" or "survived"."""
        if self.caught is None:
            return "survived"
        return CATALOG if self.caught.probe.area == CATALOG else "attempt"


class Breaker(Protocol[W, M]):
    """A server for one mutant after the other. Each method raises DbkeepError when the server does not do its part."""

    def whole(self) -> AbstractContextManager[W]:
        """A world as declared."""
        ...

    def mutants(self, world: W) -> Sequence[M]:
        """Return the mutants that can be derived from a world as declared."""
        ...

    def broken(self, mutant: M) -> AbstractContextManager[W]:
        """A world that the mutant broke, mended at the end. It tries first what the mutant is about."""
        ...

    def named_by_plan(self, world: W) -> Named:
        """Return what the plan says about a world: kind, target and summary of each change."""
        ...


def mutate(
    breakers: Sequence[Breaker[W, M]],
    probes: Sequence[Probe[W]],
    budget: Budget,
    *,
    choose: Callable[[Sequence[M]], Sequence[M]] = lambda mutants: mutants,
    likely: Callable[[str, Probe[Any]], bool] = lambda _kind, _probe: False,
    on_start: Callable[[int], None] = lambda _: None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Return the outcome of each mutant that `choose` picks, in order. Slow probes repeat others and are not asked.

    Each of `breakers` takes one mutant at a time. The probes that are `likely` to catch a kind are asked first.

    Raises DbkeepError when a probe does not pass before anything is broken: it would catch every mutant. Raises it too
    when a mutant cannot be made or undone.
    """
    free = list(breakers)
    with free[0].whole() as world:
        order = _Order(_unbroken(world, [probe for probe in probes if not probe.slow], budget), likely)
        as_declared = free[0].named_by_plan(world)
        mutants = choose(free[0].mutants(world))
    on_start(len(mutants))

    def outcome(mutant: M) -> Outcome:
        # A mutant has a server for itself: much of what it changes is of the whole server.
        mine = free.pop()
        try:
            with mine.broken(mutant) as world:
                planned = mine.named_by_plan(world) != as_declared
                results = run(world, order.of(mutant.kind), enough=lambda finding: not budget.covers(finding))
                caught = next(
                    (result for result in results if budget.failed(result) and _repeats(world, result, budget)),
                    None,
                )
        except DbkeepError as error:
            raise DbkeepError(f"mutant {mutant.name}: {error}") from None
        finally:
            free.append(mine)
        if caught:
            order.remember(mutant.kind, caught.probe)
        found = Outcome(mutant, caught, planned)
        on_outcome(found)
        return found

    with ThreadPoolExecutor(len(breakers)) as pool:
        return tuple(pool.map(outcome, mutants))


def _repeats(world: W, result: Result, budget: Budget) -> bool:
    """A probe that could not tell is asked again, because a busy machine is no mutant."""
    return bool(budget.beyond(result)) or any(budget.failed(again) for again in run(world, [result.probe]))


def _unbroken(world: W, probes: Sequence[Probe[W]], budget: Budget) -> list[Result]:
    results = list(run(world, probes))
    for result in results:
        if budget.failed(result):
            what = result.problem or budget.beyond(result)[0]
            raise DbkeepError(f"{result.probe.id} does not pass before anything is broken: {what}")
    return results


class _Order:
    """Which probe to ask first: those that caught mutants of the kind; then attempts, those that caught most first.

    Catalogs come after attempts, so that they catch only what no attempt does.
    """

    def __init__(self, results: Sequence[Result], likely: Callable[[str, Probe[Any]], bool]) -> None:
        self._seconds = {result.probe.id: result.seconds for result in results}
        self._probes = [result.probe for result in results]
        self._likely = likely
        self._caught: defaultdict[str, list[Probe[Any]]] = defaultdict(list)
        self._catches: Counter[str] = Counter()

    def of(self, kind: str) -> list[Probe[Any]]:
        first = self._caught[kind] or [probe for probe in self._probes if self._likely(kind, probe)]
        rest = [probe for probe in self._probes if probe not in first]
        return [*first, *sorted(rest, key=self._rank)]

    def _rank(self, probe: Probe[Any]) -> tuple[bool, int, float]:
        return probe.area == CATALOG, -self._catches[probe.id], self._seconds[probe.id]

    def remember(self, kind: str, probe: Probe[Any]) -> None:
        self._caught[kind] = [probe, *(other for other in self._caught[kind] if other != probe)]
        self._catches[probe.id] += 1
