"""Breaks a database in every way that mutants know, one at a time, and asks the probes whether they notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from dbkeep import postgresql
from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import one_line
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.prove import server
from dbkeep.postgresql.prove.mutants import Mutant, generate, survey
from dbkeep.postgresql.prove.mutants.grants import TABLE_PRIVILEGES
from dbkeep.postgresql.prove.server import Server
from dbkeep.postgresql.prove.world import World
from dbkeep.prove import mutation
from dbkeep.prove.budget import Budget
from dbkeep.prove.mutation import Named, Outcome
from dbkeep.prove.probe import CATALOG, Probe

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


def mutate(
    declared: Declared,
    probes: Sequence[Probe[World]],
    budget: Budget,
    *,
    version: int | None = None,
    choose: Callable[[Sequence[Mutant]], Sequence[Mutant]] = lambda mutants: mutants,
    on_start: Callable[[int], None] = lambda _: None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Return the outcome of each mutant that `choose` picks, in order.

    Raises DbkeepError as `dbkeep.prove.mutation.mutate` does.
    """
    with ExitStack() as stack:
        breakers = [_Breaker(stack.enter_context(server.start(declared, version=version))) for _ in range(WORKERS)]
        return mutation.mutate(
            breakers, probes, budget, choose=choose, likely=_is_likely, on_start=on_start, on_outcome=on_outcome
        )


def _is_likely(kind: str, probe: Probe[Any]) -> bool:
    return probe.area == CATALOG if kind in LATENT else probe.id == MATRIX and kind in TRIED_BY_MATRIX


class _Breaker:
    """A mutant is a copy of the database for itself; what it changes in the whole cluster is undone."""

    def __init__(self, made: Server) -> None:
        self._server = made
        self.whole = made.world

    def mutants(self, world: World) -> tuple[Mutant, ...]:
        return generate(survey(world.superuser(), world.declared))

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[World]:
        try:
            with self._server.world() as world, _broken(world, mutant):
                world.first = mutant.about
                yield world
        except psycopg.Error as error:
            raise DbkeepError(one_line(error)) from None

    def named_by_plan(self, world: World) -> Named:
        """It differs from the declared database in its name, and from an empty plan by the privileges on the other one,
        so that only what two worlds' plans do not share means something."""
        scope = world.declared.scope
        here = world.declared.model_copy(update={"scope": scope.model_copy(update={"database": world.database})})
        try:
            plan = postgresql.plan(self._server.settings, here, {})
        except DbkeepError as error:
            return frozenset({("error", str(error), "")})
        return frozenset(
            (change.kind, change.target.replace(world.database, scope.database), change.summary) for change in plan
        )


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
