"""A clock that jumps: what is taken meanwhile costs no earlier set, hides no later one and stops no run."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import timedelta

import pytest

from dbkeep.backup.drill import drill
from dbkeep.backup.manifest import newest, read_part, set_id_of, set_ids, time_of
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.verify import verify
from dbkeep.evidence import now

from .conftest import Site
from .stores import with_stores

ENGINES = ("mongodb", "redis")
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def run_with_clock(host: BackupHost, shift: timedelta, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take a set in a process whose clock is that far from the right one (libfaketime); return its id.

    pgBackRest refuses a clock that went back by itself, and is not asked.
    """
    before = set(set_ids(host.sets))
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", FAKETIME)
        patch.setenv("FAKETIME", f"{int(shift.total_seconds()):+d}s")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        running = multiprocessing.get_context("spawn").Process(target=run, args=(host, None, ENGINES))
        running.start()
    running.join()
    assert running.exitcode == 0
    (taken,) = set(set_ids(host.sets)) - before
    assert abs(time_of(taken) - now() - shift) < timedelta(hours=2)
    return taken


@pytest.fixture
def host(site: Site) -> Iterator[BackupHost]:
    """The host, which keeps its sets for nine days; they go after the test."""
    short = with_stores(site, (), keep_days=9, keep_minimum=2)
    yield short
    for set_id in set_ids(short.sets):
        for path in sorted((short.sets / set_id).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (short.sets / set_id).rmdir()


def take_days_ago(host: BackupHost, days: int) -> str:
    set_id = set_id_of(now() - timedelta(days=days))
    run(host, set_id, ENGINES)
    return set_id


@pytest.mark.parametrize("days", [-400, -3])
def test_a_clock_that_went_back_costs_nothing_and_its_set_is_not_the_newest(
    host: BackupHost, site: Site, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [take_days_ago(host, ago) for ago in (8, 2, 1)]
    early = run_with_clock(host, timedelta(days=days), monkeypatch)
    assert set(kept) <= set(set_ids(host.sets))
    assert newest(host.sets, ENGINES, host.settings.signing_keys) == kept[-1]
    later = run(host, set_id_of(now()), ENGINES)[0].set_id
    assert newest(host.sets, ENGINES, host.settings.signing_keys) == later
    assert (early in set_ids(host.sets)) == (days > -9), "at the right time again it is as old as it says"
    for set_id in (*kept, later):
        assert verify(host, set_id)["ok"]
    assert drill(host, "newest", ENGINES, site.identity)["observed"]["set_id"] == later


def test_a_clock_that_went_ahead_costs_no_set_and_hides_no_later_one(
    host: BackupHost, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [take_days_ago(host, ago) for ago in (8, 7, 2, 1)]
    ahead = run_with_clock(host, timedelta(days=400), monkeypatch)
    assert read_part(host.sets, ahead, "redis", host.settings.signing_keys).recovery_point.at > now()
    assert set(set_ids(host.sets)) == {*kept, ahead}, "400 days later none of them is older than nine"
    later = run(host, set_id_of(now()), ENGINES)[0].set_id
    assert set(set_ids(host.sets)) == {*kept, ahead, later}
    assert newest(host.sets, ENGINES, host.settings.signing_keys) == later
    for set_id in (*kept, ahead, later):
        assert verify(host, set_id)["ok"]
    evidence = drill(host, "newest", ENGINES, site.identity)
    assert (evidence["result"], evidence["observed"]["set_id"]) == ("passed", later)
