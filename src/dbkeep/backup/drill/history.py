"""What drills measured: RPO and RTO of every one, against the environment's targets, from the evidence they left.

RPO is how old the drilled recovery point was when the drill began: what would have been lost. RTO is how long the
engines took until the copies answered, one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from dbkeep import evidence
from dbkeep.backup.clock import is_past
from dbkeep.declared import Model
from dbkeep.errors import UsageError

PREFIX = "backup_"


class Targets(Model):
    """What is asked of drills, as inventory variables with `backup_` before them.

    A nightly set that is two hours late is 26 hours old.
    """

    rpo_target_seconds: float = Field(default=26 * 3600, gt=0)
    rto_target_seconds: float = Field(default=4 * 3600, gt=0)


def read_targets(variables: Mapping[str, Any]) -> Targets:
    """Return the targets of an environment. Raises UsageError naming the variable that is none."""
    given = {name: variables[PREFIX + name] for name in Targets.model_fields if PREFIX + name in variables}
    try:
        return Targets.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise UsageError(f"{PREFIX}{first['loc'][0]}: {first['msg']}") from None


def points_of(record: Mapping[str, Any]) -> list[datetime]:
    """Return the recovery points that a drill restored."""
    return [datetime.fromisoformat(result["recovery_point"]) for result in record["observed"]["engines"].values()]


def drilled_point(directory: Path, engines: Collection[str]) -> datetime | None:
    """Return the newest recovery point that a drill of all `engines` proved, None when none did.

    It is as old as the oldest of its engines' points, or as the drill: one that a clock ahead gave a time to come is
    none. Raises UsageError for evidence that cannot be read.
    """
    drills = evidence.read_all("drill", directory)
    proved = (drill for drill in drills if drill["result"] == "passed" and proves(drill, engines))
    points = (min(*points_of(drill), datetime.fromisoformat(drill["started_at"])) for drill in proved)
    return max(filter(is_past, points), default=None)


def proves(record: Mapping[str, Any], engines: Collection[str]) -> bool:
    """Return whether a drill was of all `engines`: one engine alone restores no environment."""
    return set(engines) <= set(record["observed"]["engines"])


def history(directory: Path, targets: Targets, engines: Collection[str], now: datetime) -> dict[str, Any]:
    """Return every drill of which there is evidence, newest first, and how old the newest drilled point is.

    `met` says whether the newest drill passed within both targets, and its point is not older than the target now.
    """
    drills = [_row(record, targets) for record in evidence.read_all("drill", directory)]
    point = drilled_point(directory, engines)
    age = round((now - point).total_seconds(), 3) if point else None
    return {
        "targets": {"rpo_seconds": targets.rpo_target_seconds, "rto_seconds": targets.rto_target_seconds},
        "drilled_point": point.isoformat() if point else None,
        "drilled_point_age_seconds": age,
        "met": bool(drills and drills[0]["met"] and age is not None and age <= targets.rpo_target_seconds),
        "drills": drills,
    }


def _row(record: Mapping[str, Any], targets: Targets) -> dict[str, Any]:
    observed = record["observed"]
    rpo, rto = observed["rpo_seconds"], observed["rto_seconds"]
    return {
        "started_at": record["started_at"],
        "seconds": record["seconds"],
        "set_id": observed["set_id"],
        "store": observed["store"],
        "engines": sorted(observed["engines"]),
        "result": record["result"],
        "rpo_seconds": rpo,
        "rto_seconds": rto,
        "stored_bytes": observed.get("stored_bytes"),
        "met": record["result"] == "passed" and rpo <= targets.rpo_target_seconds and rto <= targets.rto_target_seconds,
    }
