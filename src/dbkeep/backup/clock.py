"""What a clock that jumps may do to sets: nothing. Their times come from it, so none of them is trusted blindly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dbkeep.evidence import now

# Between two machines whose clocks are kept.
TOLERANCE = timedelta(minutes=5)
PACE = timedelta(days=1)


def is_past(moment: datetime) -> bool:
    """Say whether a moment is one that a set can be of: not still to come."""
    return moment <= now() + TOLERANCE


def in_order(moment: datetime) -> tuple[bool, datetime]:
    """Return what sorts sets by their moment, oldest first.

    One that is still to come sorts before all others: the clock was ahead then, and nobody knows when it was taken.
    """
    return (is_past(moment), moment)


def ages_from(moments: Sequence[datetime]) -> datetime:
    """Return from when on the ages of sets of these moments (oldest first) count: now, unless that is far from them.

    It is at most a day after the set before the newest one. So a clock that jumps ahead makes no set older with the
    first one that is taken then.
    """
    return min(now(), moments[-2] + PACE) if len(moments) > 1 else now()
