"""Retention: by age, by day, week and month, and never the last good copies, whatever sets there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dbkeep.backup.manifest import set_id_of, time_of
from dbkeep.backup.retention import Keep, expired

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)  # a Saturday

sets = st.lists(st.integers(0, 800 * 24), max_size=60).map(
    lambda hours: sorted({set_id_of(NOW - timedelta(hours=hour)) for hour in hours})
)
keeps = st.builds(
    Keep,
    days=st.integers(1, 30),
    minimum=st.integers(1, 5),
    daily=st.integers(0, 30),
    weekly=st.integers(0, 20),
    monthly=st.integers(0, 14),
)


def stays(ids: list[str], keep: Keep, drilled: set[str], locked: set[str]) -> list[str]:
    gone = expired(ids, NOW, keep, drilled=drilled, locked=locked)
    return [set_id for set_id in ids if set_id not in gone]


@settings(deadline=None)
@given(ids=sets, keep=keeps, data=st.data())
def test_the_last_good_copies_and_all_young_ones_stay(ids: list[str], keep: Keep, data: st.DataObject) -> None:
    chosen = st.sets(st.sampled_from(ids)) if ids else st.just(set[str]())
    drilled, locked = data.draw(chosen), data.draw(chosen)
    kept = stays(ids, keep, drilled, locked)
    assert set(ids[-keep.minimum :]) <= set(kept)
    assert locked <= set(kept)
    assert not drilled or max(drilled) in kept
    assert {set_id for set_id in ids if time_of(set_id) >= NOW - timedelta(days=keep.days)} <= set(kept)


@settings(deadline=None)
@given(ids=sets, keep=keeps)
def test_each_of_the_last_days_weeks_and_months_keeps_its_newest_set_and_nothing_else_stays(
    ids: list[str], keep: Keep
) -> None:
    kept = set(stays(ids, keep, set(), set()))
    wanted = set(ids[-keep.minimum :]) | {i for i in ids if time_of(i) >= NOW - timedelta(days=keep.days)}
    for ago in range(keep.daily):
        day = (NOW - timedelta(days=ago)).strftime("%Y%m%d")
        wanted |= set([i for i in ids if i.startswith(day)][-1:])
    for ago in range(keep.weekly):
        week = (NOW - timedelta(weeks=ago)).isocalendar()[:2]
        wanted |= set([i for i in ids if time_of(i).isocalendar()[:2] == week][-1:])
    year, month = NOW.year, NOW.month
    for _ in range(keep.monthly):
        wanted |= set([i for i in ids if i.startswith(f"{year:04}{month:02}")][-1:])
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    assert kept == wanted


@settings(deadline=None)
@given(ids=sets, keep=keeps)
def test_pruning_again_removes_nothing_and_age_alone_would_not_have_kept_more(ids: list[str], keep: Keep) -> None:
    kept = stays(ids, keep, set(), set())
    assert expired(kept, NOW, keep, drilled=()) == []
    oldest = NOW - timedelta(days=keep.span_days + 1)
    assert all(time_of(set_id) >= oldest or set_id in ids[-keep.minimum :] for set_id in kept)


def test_after_two_years_of_nightly_sets_there_are_days_weeks_and_months() -> None:
    keep, kept = Keep(days=2, minimum=1, daily=7, weekly=4, monthly=12), list[str]()
    start = NOW - timedelta(days=730)
    for night in range(731):
        now = start + timedelta(days=night)
        kept.append(set_id_of(now))
        gone = expired(kept, now, keep, drilled=())
        kept = [set_id for set_id in kept if set_id not in gone]
    assert [set_id[:8] for set_id in kept] == [
        *("20251231", "20260131", "20260228", "20260331", "20260430", "20260531", "20260630", "20260731"),
        *("20260831", "20260930", "20261031", "20261108", "20261115"),
        *(f"202611{day}" for day in range(22, 29)),
    ]
