"""What each keyspace of Redis has, from a random sample of its keys: scanning all costs the server most of a set.

A server puts keys into its table where a hash with a random seed says (Redis, src/dict.c), so those that a scan meets
first are a random sample. An instance with few keys is its own sample, and exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dbkeep.backup.key_changes import Changes
from dbkeep.backup.manifest import Count
from dbkeep.redis.connect import connect
from dbkeep.redis.inspect import sample_keys
from dbkeep.settings import RedisInstance

SAMPLED_KEYS = 10_000
# How likely a bound is wrong: a disk misreads a bit unnoticed more often.
CHANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Sample:
    """The keys that were `found`, by keyspace, of `keys` in all; `during` is how many changed or left meanwhile."""

    found: Mapping[str, int]
    keys: int
    whole: bool
    during: int = 0

    @classmethod
    def taken(cls, name: str, instance: RedisInstance) -> Sample:
        """Look at `SAMPLED_KEYS` keys of the instance, or all. Raises DbkeepError without an answer."""
        with connect(name, instance) as client:
            before, keys = Changes.seen(client), client.dbsize()
            found, whole = sample_keys(client, SAMPLED_KEYS)
            during = before.until(Changes.seen(client), keys)
        return cls({f"{name}/{prefix}": number for prefix, number in found.items()}, keys, whole, during)

    def bounds(self, changes: int, keys: int) -> dict[str, Count]:
        """Return what each keyspace had so many changes ago, of `keys` in all: one is at most a key more or less."""
        had = {name: self._had(number) for name, number in sorted(self.found.items())}
        return {n: Count(low=max(0, low - changes), high=min(keys, high + changes)) for n, (low, high) in had.items()}

    def unseen(self, changes: int, keys: int) -> int:
        """Return how many keys one may have had that is not in the sample."""
        return min(keys, self._had(0)[1] + changes)

    def _had(self, number: int) -> tuple[int, int]:
        """Return the bounds of a keyspace with `number` keys in the sample (Hoeffding 1963, theorem 1 and section 6).

        Keys whose time has come are in the table until a scan meets them: those are in `during`.
        """
        if self.whole:
            return number, number
        seen = sum(self.found.values())
        margin = math.sqrt(math.log(2 / CHANCE) / (2 * seen)) if seen else 1.0
        size = max(1, seen + self.during)
        low = math.floor((number / size - margin) * self.keys)
        return max(number, low), math.ceil(((number + self.during) / size + margin) * self.keys)
