"""How many keys of Redis changed between two moments, so that a count at one of them bounds the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

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
