"""Where the probes of PostgreSQL register."""

from __future__ import annotations

from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Registry

PROBES: Registry[World] = Registry()
probe = PROBES.probe
