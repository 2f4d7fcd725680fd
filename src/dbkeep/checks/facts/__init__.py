"""Observers: what the controls need to know from one host, gathered there in one call of `dbkeep agent facts NAME`.

They only read, and keep nothing but the place of a search that takes several calls. Every answer holds "versions" and
never a secret: no password, no verifier, no user's data.
"""

from __future__ import annotations

import importlib
from typing import Any

NAMES = ("host", "leaks", "postgresql", "mongodb", "redis", "backup")


def gather(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return what the observer `name` sees on this host; `request` is what the control sent along."""
    module = importlib.import_module(f"dbkeep.checks.facts.{name}")
    answer: dict[str, Any] = module.gather(request)
    return answer
