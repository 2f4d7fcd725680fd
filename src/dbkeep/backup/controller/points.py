"""Points of a whole environment: the records of its hosts with one name are one point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dbkeep.backup.controller.sets import Show, ask_for_engines, placed
from dbkeep.backup.manifest import set_id_of
from dbkeep.backup.points import check_name
from dbkeep.backup.settings import LOCAL
from dbkeep.environment import Environment
from dbkeep.evidence import now
from dbkeep.remote import call

# By then the agent of every host has started and is connected, and waits for the moment by its own clock.
LEAD = timedelta(seconds=5)


def set_point(
    environment: Environment,
    name: str | None = None,
    engines: Sequence[str] = (),
    *,
    on_progress: Show = lambda _: None,
) -> dict[str, Any]:
    """Set a point on all hosts at one moment and return its view. The name is the present second's without one.

    Raises DbkeepError with the line of a host where an engine failed, UsageError for a name that is taken.
    """
    where = placed(environment, engines)
    moment = now()
    request = {
        "name": check_name(name or set_id_of(moment)),
        "at": (moment + LEAD).isoformat() if len(where) > 1 else None,
    }
    answers = ask_for_engines(where, "mark", request, on_progress)
    expected = {engine for names in where.values() for engine in names}
    return view([answer["point"] for answer in answers.values()], expected)


def view(records: Sequence[Mapping[str, Any]], expected: Iterable[str]) -> dict[str, Any]:
    """Return the hosts' records of one point as one: `complete` when every expected engine has a fence.

    `skew_seconds` is from before the first fence to after the last, by the clocks of the hosts.
    """
    fences = {engine: fence for record in records for engine, fence in record["fences"].items()}
    began = min(datetime.fromisoformat(record["began_at"]) for record in records)
    at = max(datetime.fromisoformat(fence["at"]) for fence in fences.values())
    return {
        "name": records[0]["name"],
        "at": at.isoformat(timespec="milliseconds"),
        "engines": sorted(fences),
        "complete": set(expected) <= fences.keys(),
        "hosts": sorted({str(record["host"]) for record in records}),
        "skew_seconds": round((at - began).total_seconds(), 6),
    }


def list_points(environment: Environment, last: int | None = None) -> dict[str, Any]:
    """Return the environment's points, oldest first, each with the places from where all of it is restorable.

    With `last` only so many of the newest of each host; `all` says how many there are.

    `local` among them is every engine's own host. `errors` is what is damaged or does not answer, by host.
    """
    where = placed(environment)
    records: dict[str, list[dict[str, Any]]] = {}
    errors: dict[str, list[str]] = {}
    number = 0
    for host in where:
        answer = call(host, ["backup", "points"], {"last": last})
        number = max(number, answer["all"])
        if answer["errors"]:
            errors[host.name] = answer["errors"]
        for point in answer["points"]:
            records.setdefault(point["name"], []).append(point)
    expected = {engine for names in where.values() for engine in names}
    points = []
    for found in records.values():
        places = set.intersection(*({*point["restorable_from"]} for point in found))
        # The host itself comes first, the stores after it.
        ordered = sorted(places, key=lambda place: (place != LOCAL, place))
        points.append({**view(found, expected), "restorable_from": ordered})
    points.sort(key=lambda point: str(point["at"]))
    return {"points": points[-last:] if last else points, "all": number, "errors": errors}
