"""Backup sets of a whole environment: the agents of its hosts do the work, here their parts become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from dbkeep.backup.manifest import set_id_of
from dbkeep.backup.recovery_point import skew_seconds
from dbkeep.engines import NAMES
from dbkeep.environment import Environment, Host, checkout
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now, record, write
from dbkeep.remote import call

Show = Callable[[str], None]
Placed = dict[Host, list[str]]


class DrillFailedError(DbkeepError):
    """A copy could not be restored or differs; `evidence` is the whole record."""

    def __init__(self, message: str, evidence: dict[str, Any]) -> None:
        super().__init__(message)
        self.evidence = evidence


def placed(environment: Environment, engines: Sequence[str] = ()) -> Placed:
    """Return the hosts that hold `engines` (all without any), each with those it holds: the first host of each group.

    Raises UsageError when a named engine, or any at all, has no host.
    """
    found: Placed = {}
    for name in engines or NAMES:
        hosts = environment.hosts(name)
        if hosts:
            found.setdefault(hosts[0], []).append(name)
        elif engines:
            raise UsageError(f"environment {environment.name} has no host in group {name}")
    if not found:
        raise UsageError(f"environment {environment.name} has no database host")
    return found


def _ask(where: Placed, word: str, request: dict[str, Any], show: Show) -> dict[Host, dict[str, Any]]:
    """Ask all hosts at once and return their answers; raises the first error when every host has ended."""

    def one(host: Host) -> dict[str, Any]:
        prefix = f"{host.name}: " if len(where) > 1 else ""
        asked = {**request, "engines": where[host]}
        return call(host, ["backup", word], asked, on_progress=lambda line: show(f"{prefix}{line}"))

    with ThreadPoolExecutor(max_workers=len(where)) as pool:
        running = {host: pool.submit(one, host) for host in where}
    return {host: future.result() for host, future in running.items()}


def run_backup(
    environment: Environment, engines: Sequence[str] = (), *, on_progress: Show = lambda _: None
) -> dict[str, Any]:
    """Take one backup set of all hosts now and return its view. Raises DbkeepError with the failing host's line."""
    answers = _ask(placed(environment, engines), "run", {"set_id": set_id_of(now())}, on_progress)
    return view([part for answer in answers.values() for part in answer["parts"]])


def view(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the parts of one set, from whichever hosts, as one backup set."""
    moments = [datetime.fromisoformat(part["recovery_point"]["at"]) for part in parts]
    return {
        "set_id": parts[0]["set_id"],
        "engines": sorted(part["engine"] for part in parts),
        "recovery_point": max(moments).isoformat(timespec="milliseconds"),
        "skew_seconds": skew_seconds(moments),
        "stored_bytes": sum(part["stored_bytes"] for part in parts),
        "seconds": max(part["seconds"] for part in parts),
        "not_backed_up": sorted(name for part in parts for name in part["not_backed_up"]),
        "parts": {part["engine"]: part for part in parts},
    }


def list_sets(environment: Environment) -> list[dict[str, Any]]:
    """Return the environment's backup sets, oldest first; `complete` says whether every engine has its part."""
    where = placed(environment)
    by_set: dict[str, list[dict[str, Any]]] = {}
    for host in where:
        for part in call(host, ["backup", "list"])["parts"]:
            by_set.setdefault(part["set_id"], []).append(part)
    expected = {name for names in where.values() for name in names}
    sets = sorted((view(parts) for parts in by_set.values()), key=lambda found: str(found["recovery_point"]))
    return [{**found, "complete": expected <= set(found["engines"])} for found in sets]


def newest_set(environment: Environment, engines: Sequence[str] = ()) -> str:
    """Return the newest set with a part of every engine asked for; raises UsageError when there is none."""
    wanted = {name for names in placed(environment, engines).values() for name in names}
    for found in reversed(list_sets(environment)):
        if wanted <= set(found["engines"]):
            return str(found["set_id"])
    raise UsageError(f"environment {environment.name} has no set with {', '.join(sorted(wanted))}: `dbkeep backup run`")


def verify_set(environment: Environment, set_id: str, engines: Sequence[str] = ()) -> dict[str, Any]:
    """Compare a set's stored bytes with its manifests on every host and return the problems by engine."""
    answers = _ask(placed(environment, engines), "verify", {"set_id": set_id}, lambda _: None)
    problems = {engine: found for answer in answers.values() for engine, found in answer["problems"].items()}
    return {"set_id": set_id, "ok": not any(problems.values()), "problems": problems}


def restore_plan(environment: Environment, set_id: str, engines: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return for every engine what a restore of the set would replace and lose."""
    answers = _ask(placed(environment, engines), "plan", {"set_id": set_id}, lambda _: None)
    return [{"host": host.name, **row} for host, answer in answers.items() for row in answer["parts"]]


def run_restore(
    environment: Environment,
    set_id: str,
    engines: Sequence[str] = (),
    *,
    identity: str | None = None,
    on_progress: Show = lambda _: None,
) -> dict[str, Any]:
    """Put a set in place of the live data on every host and return the evidence, one entry an engine."""
    started = now()
    request = {"set_id": set_id, "identity": identity or vault_identity(environment)}
    answers = _ask(placed(environment, engines), "restore", request, on_progress)
    restored = {
        engine: {"host": host.name, **found}
        for host, answer in answers.items()
        for engine, found in answer["observed"]["engines"].items()
    }
    return _keep(environment, "restore", started, passed=True, observed={"set_id": set_id, "engines": restored})


def run_drill(
    environment: Environment,
    set_id: str | None = None,
    engines: Sequence[str] = (),
    *,
    identity: str | None = None,
    on_progress: Show = lambda _: None,
) -> dict[str, Any]:
    """Drill a set (the newest without an id) on every host; return the evidence, kept in the checkout's evidence/ENV.

    Raises DrillFailedError with the first thing that failed.
    """
    set_id = set_id or newest_set(environment, engines)
    started = now()
    request = {"set_id": set_id, "identity": identity or vault_identity(environment)}
    answers = _ask(placed(environment, engines), "drill", request, on_progress)
    results = {
        engine: {"host": host.name, **found}
        for host, answer in answers.items()
        for engine, found in answer["observed"]["engines"].items()
    }
    moments = [datetime.fromisoformat(result["recovery_point"]) for result in results.values()]
    observed = {
        "set_id": set_id,
        "engines": results,
        "skew_seconds": skew_seconds(moments),
        "rpo_seconds": round((started - min(moments)).total_seconds(), 3),
        "rto_seconds": max(answer["observed"]["rto_seconds"] for answer in answers.values()),
    }
    evidence = _keep(
        environment, "drill", started, passed=all(r["passed"] for r in results.values()), observed=observed
    )
    for engine, result in results.items():
        if not result["passed"]:
            raise DrillFailedError(f"drill of set {set_id}: {result['host']}: {engine}: {reason(result)}", evidence)
    return evidence


def reason(result: dict[str, Any]) -> str:
    """Return why one engine's drill failed, in one line."""
    if result["error"]:
        return str(result["error"])
    first = next(assertion for assertion in result["assertions"] if not assertion["holds"])
    return f"{first['what']}: expected {first['expected']}, observed {first['observed']}"


def vault_identity(environment: Environment) -> str:
    """Return the age identity in the environment's vault; raises UsageError when it is kept elsewhere."""
    identity = environment.secrets.get("backup", {}).get("age_identity")
    if not identity:
        raise UsageError(
            f"inventory/{environment.name}: the vault has no backup.age_identity; give the identity's file with "
            "--identity-file"
        )
    return str(identity)


def _keep(
    environment: Environment, kind: str, started: datetime, *, passed: bool, observed: dict[str, Any]
) -> dict[str, Any]:
    evidence = record(kind, started=started, passed=passed, observed=observed)
    write(evidence, checkout() / "evidence" / environment.name)
    return evidence
