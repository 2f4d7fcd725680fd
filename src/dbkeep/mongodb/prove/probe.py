"""Where the probes of MongoDB register."""

from __future__ import annotations

from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import Registry

PROBES: Registry[World] = Registry()
probe = PROBES.probe
