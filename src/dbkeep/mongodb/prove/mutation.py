"""Breaks servers in every way that mutants know, one at a time, and asks the probes whether they notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from pymongo.errors import PyMongoError

from dbkeep import mongodb
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import describe
from dbkeep.mongodb.models import Declared
from dbkeep.mongodb.prove import server
from dbkeep.mongodb.prove.mutants import Ground, Mutant, generate
from dbkeep.mongodb.prove.server import Server
from dbkeep.mongodb.prove.world import World
from dbkeep.mongodb.statements import Command
from dbkeep.prove import mutation
from dbkeep.prove.budget import Budget
from dbkeep.prove.mutation import Named, Outcome
from dbkeep.prove.probe import CATALOG, Probe

WORKERS = 2
# Kinds that no attempt noticed when each was asked about every one: about these the catalogs are asked first.
LATENT = frozenset(
    {
        "collection: undeclared",
        "index: undeclared",
        "parameter: transactionLifetimeLimitSeconds",
        "role: an action more, not tried",
        "role: undeclared",
        "user: undeclared",
    }
)
# NamespaceNotFound: a collection that a mutant dropped needs no dropping before it is made again.
MISSING = frozenset({26})
# The probe that is asked first about kinds that begin so; the others are asked after it all the same.
LIKELY = {
    "schema": "P20",
    # What such a keyword forbids, a rule may forbid too; then no document shows it.
    "schema, and a rule": "P20 C01",
    "rule left out": "P20",
    "validation": "P20",
    "validation: level moderate": "P23",
    "collection": "P26",
    "index": "P26",
    "index: not unique": "P27",
    "index: unique": "P27",
    "index: an hour later": "P28",
    "index: never": "P28",
    "index: expires documents": "P28",
    "view": "P32",
    "role": "P01",
    "user": "P01",
    "user: another password": "P11",
    "user: cheap password": "P13",
    "parameter: ttlMonitorEnabled": "P28",
    "parameter: scramSHA256IterationCount": "P13",
    "parameter: logLevel": "P31",
    "profiler": "P30",
    "startup": "P10",
    "startup: TLS off": "P16",
    "startup: TLS allowed": "P16",
    "startup: TLS preferred": "P16",
    "startup: invalid certificates taken": "P18",
    "startup: TLS 1.1 and 1.0 offered": "P17",
    "startup: JavaScript on": "P24",
    "startup: zlib offered": "P19",
    "startup: localhost exception open": "P14",
    "startup: SCRAM-SHA-1 enabled": "P12",
    "startup: test commands on": "P25",
}


def mutate(
    declared: Declared,
    probes: Sequence[Probe[World]],
    budget: Budget,
    *,
    choose: Callable[[Sequence[Mutant]], Sequence[Mutant]] = lambda mutants: mutants,
    on_start: Callable[[int], None] = lambda _: None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Return the outcome of each mutant that `choose` picks, in order.

    Raises DbkeepError as `dbkeep.prove.mutation.mutate` does.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(server.start(declared)) for _ in range(WORKERS)]
        breakers = [stack.enter_context(Breaker(made)) for made in servers]
        return mutation.mutate(
            breakers, probes, budget, choose=choose, likely=_is_likely, on_start=on_start, on_outcome=on_outcome
        )


def _is_likely(kind: str, probe: Probe[Any]) -> bool:
    if kind in LATENT:
        return probe.area == CATALOG
    general = kind.partition(":")[0]
    return probe.id in LIKELY.get(kind, LIKELY.get(general, "")).split()


class Breaker:
    """A mutant is undone on the server that it broke; one of how the server starts takes a restart before and after."""

    def __init__(self, made: Server) -> None:
        self._server = made
        self._open = ExitStack()
        self._world = self._open.enter_context(made.world())

    def __enter__(self) -> Breaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @contextmanager
    def whole(self) -> Iterator[World]:
        yield self._world

    def mutants(self, world: World) -> tuple[Mutant, ...]:
        return generate(Ground(world.declared, world.built_in, self._server.passwords))

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[World]:
        try:
            with self._restarted(mutant) if mutant.startup else self._changed(mutant) as world:
                world.first = mutant.about
                yield world
        except PyMongoError as error:
            raise DbkeepError(describe(error)) from None

    @contextmanager
    def _changed(self, mutant: Mutant) -> Iterator[World]:
        try:
            self._run(mutant.commands)
            yield self._world
        finally:
            self._run(mutant.undo, missing=MISSING)
            self._world.reset()

    @contextmanager
    def _restarted(self, mutant: Mutant) -> Iterator[World]:
        assert mutant.startup  # noqa: S101 - the caller asked
        self._open.close()
        try:
            with self._server.otherwise(mutant.startup), self._server.world() as world:
                yield world
        finally:
            self._world = self._open.enter_context(self._server.world())

    def named_by_plan(self, world: World) -> Named:
        try:
            plan = mongodb.plan(self._server.settings, world.declared, self._server.passwords)
        except DbkeepError as error:
            return frozenset({("error", str(error), "")})
        return frozenset((change.kind, change.target, change.summary) for change in plan)

    def _run(self, commands: Sequence[Command], *, missing: frozenset[int] = frozenset()) -> None:
        for command in commands:
            self._world.administrator()[command.database].command(command.document, allowable_errors=sorted(missing))
