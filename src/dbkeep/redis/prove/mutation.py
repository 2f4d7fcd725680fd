"""Breaks servers in every way that mutants know, one at a time, and asks the probes whether they notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import redis

from dbkeep import redis as engine
from dbkeep.errors import DbkeepError
from dbkeep.prove import mutation
from dbkeep.prove.budget import Budget
from dbkeep.prove.mutation import Named, Outcome
from dbkeep.prove.probe import CATALOG, Probe
from dbkeep.redis.declared import Declared
from dbkeep.redis.prove import server
from dbkeep.redis.prove.mutants import LATENT, LIKELY, Mutant, generate
from dbkeep.redis.prove.world import World
from dbkeep.sandbox.redis import Program

WORKERS = 2


def mutate(
    declared: Declared,
    probes: Sequence[Probe[World]],
    budget: Budget,
    *,
    program: Program | None = None,
    choose: Callable[[Sequence[Mutant]], Sequence[Mutant]] = lambda mutants: mutants,
    on_start: Callable[[int], None] = lambda _: None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Return the outcome of each mutant that `choose` picks, in order.

    Raises DbkeepError as `dbkeep.prove.mutation.mutate` does.
    """
    breakers = [_Breaker(declared, program) for _ in range(WORKERS)]
    return mutation.mutate(
        breakers, probes, budget, choose=choose, likely=_is_likely, on_start=on_start, on_outcome=on_outcome
    )


def _is_likely(kind: str, probe: Probe[Any]) -> bool:
    return probe.area == CATALOG if kind in LATENT else probe.id in LIKELY.get(kind, ())


def _with_password(world: World, word: str) -> str:
    """Return a word of a mutant with the password of the user that it names behind =."""
    return f">{world.passwords[word[1:]]}" if word.startswith("=") else word


class _Breaker:
    """A mutant has servers for itself: they start in a fifth of a second, and a probe may end them."""

    def __init__(self, declared: Declared, program: Program | None) -> None:
        self._declared, self._program = declared, program

    def whole(self) -> AbstractContextManager[World]:
        return server.start(self._declared, program=self._program)

    def mutants(self, world: World) -> tuple[Mutant, ...]:
        return generate(world)

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[World]:
        try:
            with server.start(self._declared, changed=mutant.settings, program=self._program) as world:
                for instance, *words in mutant.commands:
                    said = [_with_password(world, word) for word in words]
                    world.admin(instance).execute_command(*said)  # type: ignore[no-untyped-call]
                world.first = mutant.about
                yield world
        except redis.RedisError as error:
            raise DbkeepError(" ".join(str(error).split())) from None

    def named_by_plan(self, world: World) -> Named:
        try:
            plan = engine.plan(world.throw_away.settings, world.declared, world.passwords)
        except DbkeepError as error:
            return frozenset({("error", str(error), "")})
        return frozenset((change.kind, change.target, change.summary) for change in plan)
