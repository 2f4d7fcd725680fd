"""Drills of a whole environment and what they measured: the agents of its hosts restore, here is one record of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from random import SystemRandom
from typing import Any

from dbkeep.backup.controller.restore import request_of
from dbkeep.backup.controller.sets import (
    Placed,
    Show,
    ask_for_engines,
    keep,
    list_sets,
    newest_set,
    placed,
    vault_identity,
)
from dbkeep.backup.drill import history as drill_history
from dbkeep.backup.drill.claims import claims
from dbkeep.backup.recovery_point import skew_seconds
from dbkeep.backup.restore.target import Target
from dbkeep.backup.settings import LOCAL, off_host_store
from dbkeep.backup.stores.declared import declared_stores
from dbkeep.environment import DRILL, Environment, checkout
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now
from dbkeep.remote import call


class DrillFailedError(DbkeepError):
    """A copy could not be restored or differs; `evidence` is the whole record."""

    def __init__(self, message: str, evidence: dict[str, Any]) -> None:
        super().__init__(message)
        self.evidence = evidence


def drill_hosts(environment: Environment, engines: Sequence[str] = (), store: str | None = None) -> Placed:
    """Return where drills of a `store` run: on the first host of the group drill, else on those that hold the engines.

    Raises UsageError when the host of that group lacks an engine, or is to drill what is on the others alone.
    """
    sources = placed(environment, engines)
    if not environment.hosts(DRILL):
        return sources
    host = environment.hosts(DRILL)[0]
    wanted = [name for names in sources.values() for name in names]
    lacking = [name for name in wanted if name not in host.groups]
    if lacking:
        raise UsageError(
            f"{host.name}, of the group {DRILL}, has no {', '.join(lacking)}: put it into that group and run "
            "playbooks/site.yml, or name the engines to drill with --engine"
        )
    if store == LOCAL:
        raise UsageError(
            f"{host.name} drills copies that are off the hosts: declare a store in backup_stores (docs/stores.md), or "
            "name one with --store"
        )
    return {host: wanted}


def default_store(environment: Environment) -> str:
    """Return the store that a drill of the environment takes its set from. Raises UsageError for a wrong store."""
    return off_host_store(declared_stores(environment.variables.get("backup_stores") or ()))


def random_set(environment: Environment, engines: Sequence[str] = (), store: str = LOCAL) -> str:
    """Return any of the sets that retention keeps and that have a part of every engine asked for.

    Raises UsageError when there is none.
    """
    where = drill_hosts(environment, engines, store)
    wanted = {name for names in where.values() for name in names}
    sets = [found["set_id"] for found in list_sets(environment, store, where) if wanted <= set(found["engines"])]
    if not sets:
        raise UsageError(f"no set with {', '.join(sorted(wanted))} is in {store}: `dbkeep backup run`")
    return str(SystemRandom().choice(sets))


def run_drill(
    environment: Environment,
    set_id: str | None = None,
    engines: Sequence[str] = (),
    *,
    target: Target | None = None,
    store: str | None = None,
    identity: str | None = None,
    attack: bool = True,
    on_progress: Show = lambda _: None,
) -> dict[str, Any]:
    """Drill a set (the newest without an id) where drills run; return the evidence, kept in evidence/ENV.

    With `target`, a point or a time, it is that moment: the set before it and the log since, which no set describes.

    With `attack` every role tries its rights on the copies, and the API runs before them: then the newest set must be
    as declared now, while an older one may be from before a change. Without `store` it is the one of `default_store`.

    Raises DrillFailedError with the first thing that failed.
    """
    store = store or default_store(environment)
    where = drill_hosts(environment, engines, store)
    newest = "" if target else newest_set(environment, engines, store, where)
    wanted = target or Target(set_id or newest)
    started = now()
    asked = [name for names in where.values() for name in names]
    request = {
        **request_of(wanted, store),
        "identity": identity or vault_identity(environment),
        "claims": claims(checkout(), environment.variables, asked) if attack else {},
        # A moment may be from before a change of what is declared.
        "strict": target is None and wanted.set_id == newest,
    }
    answers = ask_for_engines(where, "drill", request, on_progress)
    observed = merged([(host.name, answer["observed"]) for host, answer in answers.items()])
    set_id = max(str(answer["observed"]["set_id"]) for answer in answers.values())
    observed = {"set_id": set_id, "target": str(wanted), "store": store, "newest": set_id == newest, **observed}
    observed["rpo_seconds"] = round((started - min(drill_history.points_of({"observed": observed}))).total_seconds(), 3)
    wrong = first_wrong(observed)
    evidence = keep(environment, "drill", started, passed=wrong is None, observed=observed)
    if environment.hosts(DRILL):
        _hand_over(evidence, placed(environment, engines), on_progress)
    if wrong:
        raise DrillFailedError(f"drill of {wanted}: {wrong}", evidence)
    return evidence


def _hand_over(evidence: dict[str, Any], sources: Placed, show: Show) -> None:
    """Tell the hosts whose sets these are: their retention keeps what was drilled, and their checks ask for it."""
    for host in sources:
        try:
            call(host, ["backup", "drilled"], {"evidence": evidence})
        except DbkeepError as error:
            # It may be gone: the drill is one all the same.
            show(f"{host.name} does not know of this drill: {error}")


def merged(answers: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return what the drills of several hosts observed as one: they ran side by side."""
    results = {
        engine: {"host": host, **found} for host, observed in answers for engine, found in observed["engines"].items()
    }
    moments = [datetime.fromisoformat(result["recovery_point"]) for result in results.values()]
    return {
        "engines": results,
        # Both need the engines side by side: they are there when one host has them all.
        "application": next((observed["application"] for _, observed in answers if observed["application"]), None),
        "references": next((observed["references"] for _, observed in answers if observed["references"]), None),
        "stored_bytes": sum(observed["stored_bytes"] for _, observed in answers),
        "skew_seconds": skew_seconds(moments),
        "rto_seconds": max(observed["rto_seconds"] for _, observed in answers),
    }


def first_wrong(observed: dict[str, Any]) -> str | None:
    """Return the first thing that made a drill fail, in one line; None when nothing did."""
    for engine, result in observed["engines"].items():
        if not result["passed"]:
            return f"{result['host']}: {engine}: {reason(result)}"
    application = observed["application"]
    return None if application is None or application["passed"] else f"application: {reason(application)}"


def reason(result: dict[str, Any]) -> str:
    """Return why one engine's drill failed, in one line."""
    if result["error"]:
        return str(result["error"])
    first = next(assertion for assertion in result["assertions"] if not assertion["holds"])
    return f"{first['what']}: expected {first['expected']}, observed {first['observed']}"


def drill_records(environment: Environment) -> dict[str, Any]:
    """Return every drill that this checkout has evidence of, against the environment's targets.

    Raises UsageError for a target or a record that cannot be read.
    """
    targets = drill_history.read_targets(environment.variables)
    engines = [name for names in placed(environment).values() for name in names]
    return drill_history.history(checkout() / "evidence" / environment.name, targets, engines, now())
