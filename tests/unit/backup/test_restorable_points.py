"""Where each point can be restored from, and which set and slices a restore takes for a moment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbkeep.backup.manifest import RecoveryPoint
from dbkeep.backup.points import write_point
from dbkeep.backup.points_catalog import points_catalog, reach
from dbkeep.backup.restore.target import Target, check_time, choose
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError, UsageError

from .point_records import at, log, new_host, point, take


@pytest.fixture
def host(tmp_path: Path) -> BackupHost:
    return new_host(tmp_path)


def test_a_log_reaches_from_a_set_to_its_next_gap(host: BackupHost) -> None:
    take(host, 10)
    for first, last, begins in ((0, 12, True), (12, 20, False), (30, 40, True)):
        log(host, "redis", first, last, begins_chain=begins)
        log(host, "mongodb", first, last, begins_chain=begins)
    for seconds in (5, 15, 20, 25, 35):
        write_point(host, point(f"p{seconds}", seconds))
    rows = points_catalog(host)["points"]
    assert {row["name"]: row["restorable_from"] for row in rows} == {
        "p5": [],
        "p15": ["local"],
        "p20": ["local"],
        "p25": [],
        "p35": [],
    }
    newest = points_catalog(host, 2)
    assert [row["name"] for row in newest["points"]] == ["p25", "p35"]
    assert newest["all"] == 5
    assert not reach([], []).holds(RecoveryPoint(at=at(1), name=""))


def test_no_more_of_the_log_is_read_than_the_newest_points_need(host: BackupHost) -> None:
    take(host, 10)
    take(host, 30)
    for engine in ("redis", "mongodb"):
        log(host, engine, 0, 20, begins_chain=True)
        log(host, engine, 20, 40)
        (host.settings.repository / "log" / engine / "20261128T080020.000000Z.json").write_text(
            "damaged", encoding="utf-8"
        )
    for seconds in (15, 35):
        write_point(host, point(f"p{seconds}", seconds))
    assert len(points_catalog(host)["errors"]) == 2
    newest = points_catalog(host, 1)
    assert newest["errors"] == []
    assert [row["restorable_from"] for row in newest["points"]] == [["local"]]


def test_a_store_restores_a_point_when_it_has_the_set_the_log_and_the_record(host: BackupHost) -> None:
    set_id = take(host, 10)
    for engine in ("redis", "mongodb"):
        log(host, engine, 0, 20, begins_chain=True)
    write_point(host, point("p", 15))

    def sources() -> list[str]:
        return list(points_catalog(host)["points"][0]["restorable_from"])

    keys = [f"sets/{set_id}/{engine}/manifest.json" for engine in ("redis", "mongodb")]
    keys += [f"log/{engine}/20261128T080020.000000Z.json" for engine in ("redis", "mongodb")]
    for key in [*keys, "points/p.db1.json"]:
        assert sources() == ["local"], key
        path = host.settings.repository.parent / "nas" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((host.settings.repository / key).read_bytes())
    assert sources() == ["local", "nas"]


def test_each_engine_takes_its_own_newest_set_before_the_moment(host: BackupHost) -> None:
    early, late = take(host, 10), take(host, 20, "redis")
    for engine in ("redis", "mongodb"):
        log(host, engine, 0, 15, begins_chain=True)
        log(host, engine, 15, 40)
        log(host, engine, 40, 50)
    write_point(host, point("p", 30))
    choice = choose(host, Target(point="p"), ("mongodb", "redis"))
    assert {engine: one.part.set_id for engine, one in choice.engines.items()} == {"mongodb": early, "redis": late}
    assert [found.last for found in choice.engines["mongodb"].slices] == ["15", "40"]
    assert [found.last for found in choice.engines["redis"].slices] == ["40"]
    assert [found.last for found in choice.engines["redis"].margin] == ["15"]
    assert choice.skew_seconds == 0.25
    to = choose(host, Target(to=at(30)), ("mongodb",))
    assert (to.engines["mongodb"].at, to.skew_seconds) == (at(30), 1.0)
    with pytest.raises(UsageError, match="no set is before"):
        choose(host, Target(to=at(5)), ("mongodb",))
    with pytest.raises(DbkeepError, match=r"mongodb: from set .* the slices end at"):
        choose(host, Target(to=at(60)), ("mongodb",))
    with pytest.raises(UsageError, match="was not set in postgresql"):
        choose(host, Target(point="p"), ("postgresql",))


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (datetime(2026, 1, 1), "no zone"),  # noqa: DTZ001 - that is what is tried
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "whole second"),
        (datetime(2999, 1, 1, tzinfo=UTC), "not past"),
    ],
)
def test_a_time_is_a_past_second_with_a_zone(moment: datetime, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_time(moment)
