"""Every probe there is, in the order of their ids."""

from __future__ import annotations

from dbkeep.redis.prove import probes
from dbkeep.redis.prove.probe import PROBES

ALL = PROBES.load(probes)
select = PROBES.select
