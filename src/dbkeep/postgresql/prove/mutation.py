"""Breaks a database in every way that mutants know, one at a time, and asks the probes whether they notice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg

from dbkeep import postgresql
from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import one_line
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.prove import server
from dbkeep.postgresql.prove.budget import Budget
from dbkeep.postgresql.prove.mutants import Mutant, generate, survey
from dbkeep.postgresql.prove.mutants.grants import TABLE_PRIVILEGES
from dbkeep.postgresql.prove.probe import Probe, Result, run
from dbkeep.postgresql.prove.server import Server
from dbkeep.postgresql.prove.world import World

# Probes of this area read catalogs; all others attempt what they are about.
CATALOG = "catalog"
WORKERS = 2
# Kinds that no attempt noticed when each was asked about every one: about these the catalogs are asked first.
LATENT = frozenset(
    {
        "connection limit lifted",
        "function VOLATILE",
        "function is SECURITY DEFINER",
        "function leakproof",
        "owner attribute",
        "owner logs on",
        "privilege on a closed database",
        "search_path unpinned",
    }
)
# The matrix tries the privilege itself; else what a mutant needs besides (USAGE on the schema) is noticed first.
MATRIX = "P58"
TRIED_BY_MATRIX = frozenset(f"{privilege} granted" for privilege in (*TABLE_PRIVILEGES, "MAINTAIN"))
Choose = Callable[[Sequence[Mutant]], Sequence[Mutant]]
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


def mutate(
    declared: Declared,
    probes: Sequence[Probe],
    budget: Budget,
    *,
    version: int | None = None,
    choose: Choose = lambda mutants: mutants,
    on_start: Callable[[int], None] = lambda _: None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Return the outcome of each mutant that `choose` picks, in order. Slow probes repeat others and are not asked.

    Raises DbkeepError when a probe does not pass before anything is broken: it would catch every mutant. Raises it too
    when a mutant cannot be made or undone.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(server.start(declared, version=version)) for _ in range(WORKERS)]
        with servers[0].world() as world:
            order = _Order(_unbroken(world, [probe for probe in probes if not probe.slow], budget))
            as_declared = _named_by_plan(servers[0], world)
            mutants = choose(generate(survey(world.superuser(), declared)))
        on_start(len(mutants))

        def outcome(mutant: Mutant) -> Outcome:
            # A mutant has a server for itself: roles are of the whole server.
            mine = servers.pop()
            try:
                with mine.world() as world, _broken(world, mutant):
                    world.first = mutant.about
                    planned = _named_by_plan(mine, world) != as_declared
                    results = run(world, order.of(mutant.kind), enough=lambda finding: not budget.covers(finding))
                    caught = next(
                        (result for result in results if budget.failed(result) and _repeats(world, result, budget)),
                        None,
                    )
            except psycopg.Error as error:
                raise DbkeepError(f"mutant {mutant.name}: {one_line(error)}") from None
            finally:
                servers.append(mine)
            if caught:
                order.remember(mutant.kind, caught.probe)
            found = Outcome(mutant, caught, planned)
            on_outcome(found)
            return found

        with ThreadPoolExecutor(WORKERS) as pool:
            return tuple(pool.map(outcome, mutants))


def _repeats(world: World, result: Result, budget: Budget) -> bool:
    """A probe that could not tell is asked again, because a busy machine is no mutant."""
    return bool(budget.beyond(result)) or any(budget.failed(again) for again in run(world, [result.probe]))


def _unbroken(world: World, probes: Sequence[Probe], budget: Budget) -> list[Result]:
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

    def __init__(self, results: Sequence[Result]) -> None:
        self._seconds = {result.probe.id: result.seconds for result in results}
        self._probes = [result.probe for result in results]
        self._caught: defaultdict[str, list[Probe]] = defaultdict(list)
        self._catches: Counter[str] = Counter()

    def of(self, kind: str) -> list[Probe]:
        first = self._caught[kind] or [probe for probe in self._probes if _is_likely(kind, probe)]
        rest = [probe for probe in self._probes if probe not in first]
        return [*first, *sorted(rest, key=self._rank)]

    def _rank(self, probe: Probe) -> tuple[bool, int, float]:
        return probe.area == CATALOG, -self._catches[probe.id], self._seconds[probe.id]

    def remember(self, kind: str, probe: Probe) -> None:
        self._caught[kind] = [probe, *(other for other in self._caught[kind] if other != probe)]
        self._catches[probe.id] += 1


def _is_likely(kind: str, probe: Probe) -> bool:
    return probe.area == CATALOG if kind in LATENT else probe.id == MATRIX and kind in TRIED_BY_MATRIX


@contextmanager
def _broken(world: World, mutant: Mutant) -> Iterator[None]:
    connection = world.superuser()
    with connection.transaction():
        for statement in mutant.statements:
            connection.execute(statement)
    try:
        yield
    finally:
        with connection.transaction():
            for statement in mutant.undo:
                connection.execute(statement)


def _named_by_plan(server: Server, world: World) -> Named:
    """Return what the plan says about a world. It differs from the declared database in its name, and from an empty
    plan by the privileges on the other one, so that only what two worlds' plans do not share means something."""
    scope = world.declared.scope
    here = world.declared.model_copy(update={"scope": scope.model_copy(update={"database": world.database})})
    try:
        plan = postgresql.plan(server.settings, here, {})
    except DbkeepError as error:
        return frozenset({("error", str(error), "")})
    return frozenset(
        (change.kind, change.target.replace(world.database, scope.database), change.summary) for change in plan
    )
