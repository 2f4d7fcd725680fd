"""Which backup sets may go: pure, so that the rule can be tested without a clock or a disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from dbkeep.backup.manifest import time_of


def expired(
    set_ids: Sequence[str], now: datetime, *, keep_days: int, keep_minimum: int, drilled: Collection[str]
) -> list[str]:
    """Return the sets older than `keep_days`, oldest first.

    The newest `keep_minimum` sets and the newest drilled one always stay: age alone never removes the last good copy.
    """
    ordered = sorted(set_ids)
    proved = [set_id for set_id in ordered if set_id in drilled]
    kept = {*ordered[-keep_minimum:], *proved[-1:]}
    limit = now - timedelta(days=keep_days)
    return [set_id for set_id in ordered if set_id not in kept and time_of(set_id) < limit]
