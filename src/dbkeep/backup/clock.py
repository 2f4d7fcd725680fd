"""What a clock that jumps may do to sets: nothing. Their times come from it, so none of them is trusted blindly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from dbkeep.evidence import STAMP, TOLERANCE, now

PACE = timedelta(days=1)
# A clock is set back by less than that often, and nobody restores to a moment in between.
STEP = timedelta(seconds=10)
_SET_BACK = "_"


def is_past(moment: datetime) -> bool:
    """Say whether a moment is one that a set can be of: not still to come."""
    return moment <= now() + TOLERANCE


def in_order(moment: datetime, after: str = "") -> tuple[bool, str]:
    """Return what sorts sets by their place, oldest first.

    One that is still to come sorts before all others: the clock was ahead then, and nobody knows when it was taken.
    """
    return (is_past(moment), place(moment, after))


def ages_from(moments: Sequence[datetime]) -> datetime:
    """Return from when on the ages of sets of these moments (oldest first) count: now, unless that is far from them.

    It is at most a day after the set before the newest one. So a clock that jumps ahead makes no set older with the
    first one that is taken then.
    """
    return min(now(), moments[-2] + PACE) if len(moments) > 1 else now()


def place(moment: datetime, after: str = "") -> str:
    """Return the place of an aware moment among all that an engine's log has, as text that sorts as it was recorded.

    It is the moment; where the clock had been ahead and was set back, `after`, the place where that happened, is in
    front of it. So what was recorded then is after all that was recorded ahead, and before what is when the clock has
    passed that place.
    """
    moment_text = moment.astimezone(UTC).strftime(STAMP)
    return f"{after}{_SET_BACK}{moment_text}" if after else moment_text


def after_at(newest: str | None, moment: datetime) -> str:
    """Return what is in front of `moment` in the place of what is recorded now, after what has the place `newest`."""
    if newest is None:
        return ""
    found = newest.split(_SET_BACK)
    while len(found) > 1 and place(moment) > found[-2]:
        found.pop()
    if place(moment + STEP) < found[-1]:
        return _SET_BACK.join(found)
    return _SET_BACK.join(found[:-1])


def after_of(places: Sequence[str], moment: datetime) -> str:
    """Return what is in front of `moment` in its place, when one of `places`, in order, is the last one not after it.

    A clock that was set back passes a moment twice: it is the second time that is meant.
    """
    for found in reversed(places):
        after, _, recorded = found.rpartition(_SET_BACK)
        if recorded <= place(moment):
            return after
    return ""


def is_crossed(begin: str, after: str, moment: datetime) -> bool:
    """Say whether the clock showed a later time than `moment` between the place `begin` and `moment` after `after`."""
    return bool(after) and begin <= after and max(after.split(_SET_BACK)) > place(moment)
