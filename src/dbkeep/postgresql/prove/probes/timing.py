"""P40: does the time of an answer tell a hidden row from a missing one?"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Sequence
from statistics import NormalDist, median
from uuid import UUID, uuid4

from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding

API = "app_api"
SAMPLES = 2000
# Half of all pairs of samples is no difference. Certainty alone is not enough: with many samples any machine's noise is
# certain. What counts is how often one guess would be right.
EFFECT = 0.1
CERTAINTY = 0.001
# On a quiet machine a single instruction more is certain and frequent, and nobody can tell it through a network.
DIFFERENCE = 0.05
QUERIES = {
    "chat.users": "SELECT FROM chat.users WHERE id = %s",
    "chat.profiles": "SELECT FROM chat.profiles WHERE user_id = %s",
    "chat.settings": "SELECT FROM chat.settings WHERE user_id = %s",
    "chat.can_see": "SELECT chat.can_see(%s)",
}


@probe(
    "P40",
    "A hidden row takes as long as a missing one",
    area="leak",
    sources=("Mann, Whitney 1947: On a test of whether one of two random variables is larger",),
    slow=True,
)
def timing(world: World) -> Iterator[Finding]:
    """carl blocks anna and dora is deactivated: neither may be told from nobody, nor one from the other."""
    carl, dora = world.people["carl"].id, world.people["dora"].id
    for target, query in QUERIES.items():
        for one, other, leak in (("blocking", "missing", "timing"), ("blocking", "deactivated", "")):
            second = [dora] * SAMPLES if other == "deactivated" else [uuid4() for _ in range(SAMPLES)]
            times = _measure(world, query.encode(), [carl] * SAMPLES, second)
            larger, chance = rank_test(*times)
            longer, shorter = sorted(map(median, times), reverse=True)
            if abs(larger - 0.5) > EFFECT and chance < CERTAINTY and longer / shorter > 1 + DIFFERENCE:
                told = f"{one} takes {_microseconds(times[0])} µs, {other} {_microseconds(times[1])} µs"
                yield Finding(API, target, f"{told}: larger in {larger:.0%} of all pairs", leak=leak)


def _measure(world: World, query: bytes, *keys: Sequence[UUID]) -> tuple[list[float], list[float]]:
    """Return the seconds that each key takes, asked in random turns so that drift touches both sides alike."""
    turns = [(side, key) for side in (0, 1) for key in keys[side]]
    random.shuffle(turns)
    taken: tuple[list[float], list[float]] = ([], [])
    gc.disable()
    try:
        with world.acting_as(world.session(API), world.people["anna"]) as connection:
            for side, key in turns:
                started = time.perf_counter()
                connection.execute(query, [key])
                taken[side].append(time.perf_counter() - started)
    finally:
        gc.enable()
    return taken


def rank_test(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return how often a value of `one` is larger than one of `other`, and how likely that is by chance alone.

    The test of Mann and Whitney in its normal approximation, which holds from about twenty values each.
    """
    ranked = sorted([(value, True) for value in one] + [(value, False) for value in other])
    ranks = 0.0
    start = 0
    while start < len(ranked):
        end = start
        while end < len(ranked) and ranked[end][0] == ranked[start][0]:
            end += 1
        ranks += (start + 1 + end) / 2 * sum(mine for _, mine in ranked[start:end])
        start = end
    n, m = len(one), len(other)
    larger = ranks - n * (n + 1) / 2
    deviation = (larger - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5
    return larger / (n * m), 2 * (1 - NormalDist().cdf(abs(deviation)))


def _microseconds(values: Sequence[float]) -> str:
    return f"{median(values) * 1e6:.0f}"
