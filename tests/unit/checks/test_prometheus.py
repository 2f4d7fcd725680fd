"""A report as metrics: what a textfile collector reads of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from dbkeep.checks.control import Severity, State
from dbkeep.checks.prometheus import prometheus_text
from dbkeep.checks.report import Result, make_report

AT = "2026-11-28T02:00:00+00:00"
SECONDS = datetime(2026, 11, 28, 2, tzinfo=UTC).timestamp()
# Exposition format 0.0.4: a name, labels in braces, a number.
SAMPLE = re.compile(r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\} (?P<value>\S+)')


def result(control: str, observed: dict[str, Any], state: State = State.PASS) -> Result:
    return Result(
        control=control, title="?", area="backup", severity=Severity.CRITICAL, sources=("s",), host='a"b',
        state=state, observed=observed,
    )  # fmt: skip


def samples(*results: Result) -> dict[tuple[str, str], float]:
    text = prometheus_text(make_report("production", datetime.now(UTC), list(results), {}))
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            found[match["name"], match["labels"]] = float(match["value"])
    return found


def test_newest_set_and_drill_are_timestamps_with_sizes_and_durations() -> None:
    newest = {"redis": {"at": AT, "stored_bytes": 4096, "seconds": 1.5}, "mongodb": None}
    drill = {"passed": True, "finished_at": AT, "point": AT, "rpo_seconds": 60.0, "rto_seconds": 7.5}
    run = {"passed": False, "finished_at": AT}
    found = samples(
        result("BK-01", {"newest": newest}), result("BK-03", {"run": run}), result("BK-04", {"drill": drill})
    )
    host = 'environment="production",host="a\\"b"'
    redis = f'{host},engine="redis"'
    assert found["dbkeep_backup_point_timestamp_seconds", redis] == SECONDS
    assert found["dbkeep_backup_stored_bytes", redis] == 4096
    assert found["dbkeep_backup_duration_seconds", redis] == 1.5
    assert found["dbkeep_backup_last_run_ok", host] == 0
    assert found["dbkeep_drill_last_ok", host] == 1
    assert found["dbkeep_drill_point_timestamp_seconds", host] == SECONDS
    assert found["dbkeep_drill_rto_seconds", host] == 7.5
    assert not any("mongodb" in labels for _, labels in found)


def test_a_control_is_ok_or_not_and_absent_where_it_means_nothing() -> None:
    found = samples(
        result("A-1", {}), result("A-2", {}, State.FAIL), result("A-3", {}, State.ERROR),
        result("A-4", {}, State.WAIVED), result("A-5", {}, State.NOT_APPLICABLE),
    )  # fmt: skip
    states = {
        re.findall(r'control="([^"]+)"', labels)[0]: value
        for (name, labels), value in found.items()
        if name == "dbkeep_control_ok"
    }
    assert states == {"A-1": 1, "A-2": 0, "A-3": 0, "A-4": 1}


def test_without_a_drill_there_is_no_drills_metric() -> None:
    assert not any("drill" in name for name, _ in samples(result("BK-04", {"drill": None}, State.FAIL)))
