"""Every probe there is, in the order of their ids."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from dbkeep.errors import UsageError
from dbkeep.postgresql.prove import probes
from dbkeep.postgresql.prove.probe import PROBES, Probe

__all__ = ["ALL", "select"]

for _module in pkgutil.iter_modules(probes.__path__, f"{probes.__name__}."):
    importlib.import_module(_module.name)  # a module registers its probes when it is imported

ALL: tuple[Probe, ...] = tuple(PROBES[key] for key in sorted(PROBES))


def select(ids: Sequence[str]) -> tuple[Probe, ...]:
    """Return the probes of those ids, or all without one. Raises UsageError for an id that no probe has."""
    unknown = [name for name in ids if name not in PROBES]
    if unknown:
        raise UsageError(f"no probe is called {unknown[0]}: there are {', '.join(sorted(PROBES))}")
    return tuple(PROBES[key] for key in sorted(ids or PROBES))
