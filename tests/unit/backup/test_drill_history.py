"""What drills measured, and whether it meets the targets: from evidence alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup.drill.history import Targets, drilled_point, history, read_targets
from dbkeep.errors import UsageError

NOW = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)
ENGINES = ("postgresql", "redis")


def leave(folder: Path, number: int, *, hours_ago: float, result: str = "passed", **changed: Any) -> None:
    """Evidence of a drill whose PostgreSQL point is that old and whose Redis point is a minute younger."""
    point = NOW - timedelta(hours=hours_ago)
    points = {"postgresql": point, "redis": point + timedelta(minutes=1)}
    engines, started = changed.pop("engines", ENGINES), changed.pop("started_at", NOW)
    observed = {
        "set_id": f"set{number}",
        "store": "offsite",
        "engines": {name: {"recovery_point": points[name].isoformat()} for name in engines},
        "rpo_seconds": 3600.0,
        "rto_seconds": 100.0,
        **changed,
    }
    record = {"result": result, "started_at": started.isoformat(), "seconds": 1.0, "observed": observed}
    (folder / f"drill-{number:04d}.json").write_text(json.dumps(record))


def test_the_drilled_point_is_the_newest_that_passed_and_as_old_as_its_oldest_engine(tmp_path: Path) -> None:
    leave(tmp_path, 1, hours_ago=5)
    leave(tmp_path, 2, hours_ago=30)  # a random set, drilled later
    leave(tmp_path, 3, hours_ago=1, result="failed")
    leave(tmp_path, 4, hours_ago=2, engines=("redis",))
    assert drilled_point(tmp_path, ENGINES) == NOW - timedelta(hours=5)
    assert drilled_point(tmp_path, ["redis"]) == NOW - timedelta(hours=2) + timedelta(minutes=1)


def test_a_point_of_a_clock_that_was_ahead_is_not_newer_than_its_drill(tmp_path: Path) -> None:
    leave(tmp_path, 1, hours_ago=5)
    leave(tmp_path, 2, hours_ago=-48)
    assert drilled_point(tmp_path, ENGINES) == NOW
    leave(tmp_path, 3, hours_ago=-901 * 24, started_at=NOW + timedelta(days=900))
    assert drilled_point(tmp_path, ENGINES) == NOW


def test_without_a_drill_no_target_is_met(tmp_path: Path) -> None:
    found = history(tmp_path, Targets(), ENGINES, NOW)
    assert (found["drilled_point"], found["met"], found["drills"]) == (None, False, [])


def test_drills_come_newest_first_each_against_the_targets(tmp_path: Path) -> None:
    leave(tmp_path, 1, hours_ago=3, rto_seconds=20_000.0)
    leave(tmp_path, 2, hours_ago=2)
    found = history(tmp_path, Targets(), ENGINES, NOW)
    assert [(row["set_id"], row["met"]) for row in found["drills"]] == [("set2", True), ("set1", False)]
    assert found["met"]
    assert found["drilled_point_age_seconds"] == 7200


@pytest.mark.parametrize(
    "missed",
    [{"hours_ago": 27}, {"hours_ago": 1, "result": "failed"}, {"hours_ago": 1, "rto_seconds": 14_401.0}],
    ids=["old", "failed", "slow"],
)
def test_a_newest_drill_that_is_old_failed_or_slow_misses(tmp_path: Path, missed: dict[str, Any]) -> None:
    leave(tmp_path, 1, **missed)
    assert not history(tmp_path, Targets(), ENGINES, NOW)["met"]


def test_targets_are_inventory_variables() -> None:
    assert read_targets({"backup_rto_target_seconds": 60}).rto_target_seconds == 60
    with pytest.raises(UsageError, match="backup_rpo_target_seconds: Input should be greater than 0"):
        read_targets({"backup_rpo_target_seconds": 0})
