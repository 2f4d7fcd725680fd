"""Which backup sets may go. The rule itself is pure, so that it can be tested without a clock or a disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dbkeep import evidence
from dbkeep.backup.clock import ages_from, is_past
from dbkeep.backup.manifest import time_of
from dbkeep.backup.settings import BackupHost, BackupSettings

MONTH_DAYS = 31


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays: all sets of so many days, then the newest set of each of the last days, weeks and months (UTC).

    Weeks begin on Monday; the present day, week and month count. The newest `minimum` sets stay whatever their age.
    """

    days: int
    minimum: int
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    @classmethod
    def of(cls, settings: BackupSettings) -> Keep:
        return cls(
            settings.keep_days,
            settings.keep_minimum,
            settings.keep_daily,
            settings.keep_weekly,
            settings.keep_monthly,
        )

    @property
    def span_days(self) -> int:
        """After so many days no set is kept for its age: what a store that only knows ages is told."""
        return max(self.days, self.daily, 7 * self.weekly, MONTH_DAYS * self.monthly)


def expired(
    set_ids: Iterable[str], now: datetime, keep: Keep, *, drilled: Collection[str], locked: Collection[str] = ()
) -> list[str]:
    """Return the sets that `keep` lets go, oldest first.

    The newest drilled one and those that are `locked` stay: neither age nor rule removes the last good copy.
    """
    ordered = sorted(set_ids)
    proved = [set_id for set_id in ordered if set_id in drilled]
    kept = {*ordered[-keep.minimum :], *proved[-1:], *locked}
    for number, distance in ((keep.daily, _days), (keep.weekly, _weeks), (keep.monthly, _months)):
        kept |= _newest_of_each(ordered, now, number, distance)
    limit = now - timedelta(days=keep.days)
    return [set_id for set_id in ordered if set_id not in kept and time_of(set_id) < limit]


def _newest_of_each(
    ordered: Sequence[str], now: datetime, number: int, distance: Callable[[datetime, datetime], int]
) -> set[str]:
    """Return the newest set of each of the last `number` periods; of `ordered` the later one of a period wins."""
    newest = {distance(time_of(set_id), now): set_id for set_id in ordered}
    return {set_id for periods, set_id in newest.items() if periods < number}


def _days(moment: datetime, now: datetime) -> int:
    return (now.date() - moment.date()).days


def _weeks(moment: datetime, now: datetime) -> int:
    monday = now.date() - timedelta(days=now.weekday())
    return (monday - (moment.date() - timedelta(days=moment.weekday()))).days // 7


def _months(moment: datetime, now: datetime) -> int:
    return (now.year - moment.year) * 12 + now.month - moment.month


def expired_sets(host: BackupHost, set_ids: Sequence[str], locked: Collection[str] = ()) -> list[str]:
    """Return those of `set_ids` that this host's settings and drills let go now, oldest first."""
    drills = evidence.read_all("drill", host.settings.evidence)
    drilled = {drill["observed"]["set_id"] for drill in drills if drill["result"] == "passed"}
    past = [set_id for set_id in sorted(set_ids) if is_past(time_of(set_id))]
    now = ages_from([time_of(set_id) for set_id in past])
    return expired(past, now, Keep.of(host.settings), drilled=drilled, locked=locked)
