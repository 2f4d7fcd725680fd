"""What each keyspace of Redis had at the fence, from one count after it and how much changed in between.

Counting is what a set costs the server most, so it is done once, while the child writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from dbkeep.backup.manifest import Count

# Of INFO, section stats: what leaves without a command. The second one is of Redis 8.
LEFT = ("expired_keys", "expired_subkeys", "evicted_keys")


@dataclass(frozen=True, slots=True)
class Changes:
    """How often keys of an instance changed or left, by its own counters, which `saves` begins anew."""

    number: int
    saves: int

    @classmethod
    def seen(cls, client: redis.Redis) -> Changes:
        """Read the counters."""
        state: dict[str, Any] = client.info("persistence") | client.info("stats")
        left = sum(int(state.get(name, 0)) for name in LEFT)
        return cls(int(state["rdb_changes_since_last_save"]) + left, int(state["rdb_saves"]))

    def until(self, after: Changes, keys: int) -> int:
        """Return how many there were at most: no more than counts, where there were `keys` before."""
        return min(after.number - self.number, keys) if after.saves == self.saves else keys


def bounds(found: Mapping[str, int], changes: int, keys: int) -> dict[str, Count]:
    """Return what each keyspace had, of `keys` in all, when it has `found` after so many changes.

    A change is at most one key more or less in a keyspace. One that has none now may have had as many as there were
    changes.
    """
    return {
        name: Count(low=max(0, number - changes), high=min(keys, number + changes))
        for name, number in sorted(found.items())
    }
