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


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# Two hours, two days ahead, back, ahead again and further, back before the first time, and on until both are passed.
STORY = [
    NOW,
    NOW + HOUR,
    NOW + 2 * DAY,
    NOW + 2 * DAY + HOUR,
    NOW + 2 * HOUR,
    NOW + 3 * HOUR,
    NOW + 5 * DAY,
    NOW + 4 * HOUR,
    NOW + 2 * DAY + 2 * HOUR,
    NOW + 5 * DAY + HOUR,
]


def places_of(story: list[datetime]) -> list[str]:
    found: list[str] = []
    for moment in story:
        found.append(clock.place(moment, clock.after_at(found[-1] if found else None, moment)))
    return found


def test_places_sort_as_they_were_recorded_whatever_the_clock() -> None:
    places = places_of(STORY)
    assert sorted(places) == places
    plain = ["_" not in found for found in places]
    assert plain == [True, True, True, True, False, False, True, False, False, True]


@pytest.mark.parametrize(
    ("hours", "place"),
    [(0.5, 0), (2.5, 4), (3.5, 5), (5, 7), (2 * 24 + 1, 7), (2 * 24 + 3, 8), (5 * 24 + 2, 9)],
)
def test_a_moment_that_the_clock_showed_twice_is_the_later_one(hours: float, place: int) -> None:
    places = places_of(STORY)
    moment = NOW + hours * HOUR
    found = clock.place(moment, clock.after_of(places, moment))
    assert sorted([*places, found]).index(found) == place + 1


def test_a_moment_is_crossed_where_the_clock_showed_a_later_one_before() -> None:
    places = places_of(STORY)
    moment = NOW + 3 * HOUR + HOUR / 2
    after = clock.after_of(places[:6], moment)
    assert [clock.is_crossed(begin, after, moment) for begin in places[:6]] == [True] * 4 + [False] * 2
    passed = NOW + 5 * DAY + 2 * HOUR
    assert not clock.is_crossed(places[0], clock.after_of(places, passed), passed)
