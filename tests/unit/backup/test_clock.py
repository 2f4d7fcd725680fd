"""A clock that jumps costs no set and hides no later one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbkeep.backup import clock

NOW = datetime(2026, 11, 28, 2, tzinfo=UTC)
DAYS = [NOW - timedelta(days=days) for days in (8, 7, 2, 1)]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def test_a_set_of_a_time_to_come_is_older_than_all_others() -> None:
    ahead = NOW + timedelta(days=400)
    assert sorted([ahead, *DAYS], key=clock.in_order) == [ahead, *DAYS]
    assert sorted([DAYS[3], DAYS[0]], key=clock.in_order) == [DAYS[0], DAYS[3]]


def test_the_first_set_of_a_clock_that_went_ahead_makes_no_other_older(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = NOW + timedelta(days=400)
    monkeypatch.setattr(clock, "now", lambda: ahead)
    assert clock.ages_from([*DAYS, ahead]) == NOW


def test_ages_count_from_now_when_sets_are_taken_daily() -> None:
    assert clock.ages_from([*DAYS, NOW]) == NOW
    assert clock.ages_from([]) == NOW
    assert clock.ages_from(DAYS[:1]) == NOW


def test_a_little_difference_between_clocks_is_no_time_to_come() -> None:
    assert clock.is_past(NOW + timedelta(minutes=1))
    assert not clock.is_past(NOW + timedelta(hours=1))
