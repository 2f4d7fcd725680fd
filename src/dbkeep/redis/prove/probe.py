"""Where the probes of Redis register."""

from __future__ import annotations

from dbkeep.prove.probe import Registry
from dbkeep.redis.prove.world import World

PROBES: Registry[World] = Registry()
probe = PROBES.probe
