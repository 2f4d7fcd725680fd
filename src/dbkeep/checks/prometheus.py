"""A report as metrics, for the textfile collector of Prometheus' node exporter (exposition format, version 0.0.4).

Moments are timestamps, not ages: an age in a file that nobody writes any more stays young for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from dbkeep.checks.control import State
from dbkeep.checks.report import Report, Result

# Control, key of what it observed there, and the metrics that are read from it: name, key, help.
BACKUP, DRILL, RUN = ("BK-01", "newest"), ("BK-04", "drill"), ("BK-03", "run")
METRICS: tuple[tuple[tuple[str, str], str, str, str], ...] = (
    (BACKUP, "dbkeep_backup_point_timestamp_seconds", "at", "Recovery point of the newest part of an engine."),
    (BACKUP, "dbkeep_backup_stored_bytes", "stored_bytes", "Bytes that the newest part of an engine added."),
    (BACKUP, "dbkeep_backup_duration_seconds", "seconds", "How long the newest part of an engine took."),
    (RUN, "dbkeep_backup_last_run_ok", "passed", "Whether the last backup of the host worked."),
    (RUN, "dbkeep_backup_last_run_timestamp_seconds", "finished_at", "When the last backup of the host ended."),
    (DRILL, "dbkeep_drill_last_ok", "passed", "Whether the last drill proved its set."),
    (DRILL, "dbkeep_drill_last_timestamp_seconds", "finished_at", "When the last drill ended."),
    (DRILL, "dbkeep_drill_point_timestamp_seconds", "point", "Newest recovery point that a drill proved."),
    (DRILL, "dbkeep_drill_rpo_seconds", "rpo_seconds", "How old the last drilled point was when its drill began."),
    (DRILL, "dbkeep_drill_rto_seconds", "rto_seconds", "How long the engines of the last drill took to answer."),
)  # fmt: skip

Labels = Mapping[str, str]


def prometheus_text(report: Report) -> str:
    """Return the metrics of a report: every control's state, and what the backup's controls observed."""
    lines = [
        *_metric("dbkeep_check_timestamp_seconds", "When the check ended.",
                 [({"environment": report.environment}, report.finished_at.timestamp())]),
        *_metric("dbkeep_control_ok", "1: passed or waived; 0: failed, or could not be answered.",
                 [(_labels(report, result), _ok(result)) for result in report.results
                  if result.state is not State.NOT_APPLICABLE]),
    ]  # fmt: skip
    for (control, key), name, member, text in METRICS:
        found = [result for result in report.results if result.control == control]
        samples = [sample for result in found for sample in _samples(report, result, key, member)]
        lines += _metric(name, text, samples)
    return "\n".join(lines) + "\n"


def _ok(result: Result) -> float:
    return float(result.state in {State.PASS, State.WAIVED})


def _labels(report: Report, result: Result) -> Labels:
    return {
        "environment": report.environment,
        "host": result.host,
        "control": result.control,
        "severity": result.severity.value,
    }


def _samples(report: Report, result: Result, key: str, member: str) -> Iterator[tuple[Labels, float]]:
    """Yield the samples of one value: it is there once for the host, or once for each engine."""
    observed = result.observed.get(key)
    labels = {"environment": report.environment, "host": result.host}
    entries = observed if key == BACKUP[1] and observed else {"": observed}
    for engine, values in entries.items():
        if values and values.get(member) is not None:
            yield labels | ({"engine": engine} if engine else {}), _number(values[member])


def _number(value: Any) -> float:
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value)


def _metric(name: str, text: str, samples: list[tuple[Labels, float]]) -> list[str]:
    if not samples:
        return []
    shown = [f"{name}{{{_shown(labels)}}} {value!r}" for labels, value in samples]
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge", *shown]


def _shown(labels: Labels) -> str:
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
