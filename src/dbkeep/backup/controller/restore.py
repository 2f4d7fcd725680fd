"""Restores of a whole environment: every host brings its engines to the same set, point or moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from dbkeep.backup.controller.references import references_or_reason
from dbkeep.backup.controller.sets import Show, ask_for_engines, keep, placed, vault_identity
from dbkeep.backup.controller.target import bring, names_of, onto
from dbkeep.backup.restore.target import Target
from dbkeep.backup.settings import LOCAL
from dbkeep.environment import Environment, Host
from dbkeep.evidence import now


def request_of(target: Target, store: str) -> dict[str, Any]:
    """Return the part of a request to an agent that says what to go to, and where it is."""
    to = target.to.isoformat() if target.to else None
    return {"set_id": target.set_id, "point": target.point, "to": to, "store": store}


def _skew_seconds(answers: Iterable[Mapping[str, Any]]) -> float:
    """Return the window in which the engines of all hosts have their moments, by the hosts' own clocks."""
    found = list(answers)
    began = min(datetime.fromisoformat(answer["began"]) for answer in found)
    return round((max(datetime.fromisoformat(answer["at"]) for answer in found) - began).total_seconds(), 6)


def restore_plan(
    environment: Environment,
    target: Target,
    engines: Sequence[str] = (),
    store: str = LOCAL,
    host: Host | None = None,
) -> dict[str, Any]:
    """Return for every engine what a restore would replace and lose, and how far apart the engines will be.

    With `host` it is about the engines there, which get the data of those of the environment.
    """
    request, where = request_of(target, store), placed(environment, engines)
    if host:
        sources, where = where, onto(environment, host, engines)
        request["source"] = names_of(sources)
        if store == LOCAL:
            bring(sources, host, request, records_only=True, on_progress=lambda _: None)
    answers = ask_for_engines(where, "plan", request, lambda _: None)
    rows = [{"host": host.name, **row} for host, answer in answers.items() for row in answer["parts"]]
    return {
        "target": str(target),
        "source": request.get("source", ""),
        "skew_seconds": _skew_seconds(answers.values()),
        "parts": rows,
    }


def run_restore_beside(
    environment: Environment,
    target: Target,
    directory: str,
    engines: Sequence[str] = (),
    *,
    store: str = LOCAL,
    identity: str | None = None,
    on_progress: Show = lambda _: None,
) -> dict[str, Any]:
    """Restore every engine into the folder `directory` of its host, beside what runs, and return the evidence."""
    started = now()
    request = request_of(target, store) | {
        "identity": identity or vault_identity(environment),
        "directory": directory,
    }
    answers = ask_for_engines(placed(environment, engines), "restore", request, on_progress)
    hosts = [{**answer["observed"], "host": host.name} for host, answer in answers.items()]
    observed = {"target": str(target), "store": store, "directory": directory, "hosts": hosts}
    return keep(environment, "restore", started, passed=True, observed=observed)


def run_restore(
    environment: Environment,
    target: Target,
    engines: Sequence[str] = (),
    *,
    store: str = LOCAL,
    identity: str | None = None,
    host: Host | None = None,
    on_progress: Show = lambda _: None,
) -> dict[str, Any]:
    """Put every engine at the target in place of its live data and return the evidence, one entry an engine.

    With `host` the engines there are put at it, and those of the environment are left as they are.
    What dangles between the stores then is part of it: the restore is done all the same.
    """
    started = now()
    request, where = request_of(target, store), placed(environment, engines)
    request["identity"] = identity or vault_identity(environment)
    if host:
        sources, where = where, onto(environment, host, engines)
        request["source"] = names_of(sources)
        if store == LOCAL:
            bring(sources, host, request, on_progress=on_progress)
    answers = ask_for_engines(where, "restore", request, on_progress)
    restored = {
        engine: {"host": host.name, **found}
        for host, answer in answers.items()
        for engine, found in answer["observed"]["engines"].items()
    }
    observed = {
        "target": str(target),
        "set_id": max(str(found["set_id"]) for found in restored.values()),
        "store": store,
        **({"source": request["source"]} if host else {}),
        "skew_seconds": _skew_seconds(answer["observed"] for answer in answers.values()),
        "engines": restored,
        **references_or_reason(where if host else placed(environment)),
    }
    return keep(environment, "restore", started, passed=True, observed=observed)
