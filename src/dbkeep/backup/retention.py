"""Which backup sets may go. The rule itself is pure, so that it can be tested without a clock or a disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from dbkeep import evidence
from dbkeep.backup.clock import ages_from, is_past
from dbkeep.backup.manifest import time_of
from dbkeep.backup.settings import BackupHost


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


def expired_sets(host: BackupHost, set_ids: Sequence[str]) -> list[str]:
    """Return those of `set_ids` that this host's settings and drills let go now, oldest first."""
    drills = evidence.read_all("drill", host.settings.evidence)
    past = [set_id for set_id in sorted(set_ids) if is_past(time_of(set_id))]
    return expired(
        past,
        ages_from([time_of(set_id) for set_id in past]),
        keep_days=host.settings.keep_days,
        keep_minimum=host.settings.keep_minimum,
        drilled={drill["observed"]["set_id"] for drill in drills if drill["result"] == "passed"},
    )
