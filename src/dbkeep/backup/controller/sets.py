"""Backup sets of a whole environment: the agents of its hosts do the work, here their parts become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from dbkeep.backup.manifest import set_id_of
from dbkeep.backup.recovery_point import skew_seconds
from dbkeep.backup.retention import Keep
from dbkeep.backup.score import score
from dbkeep.backup.settings import ALL, LOCAL, BackupSettings, PostgreSQLBackup, S3StoreSettings
from dbkeep.backup.stores.declared import declared_stores
from dbkeep.backup.stores.object_lock_policy import lifecycle, policy
from dbkeep.engines import NAMES
from dbkeep.environment import Environment, Host, checkout
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now, record, write
from dbkeep.remote import call

Show = Callable[[str], None]
Placed = dict[Host, list[str]]


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


def ask(requests: Mapping[Host, dict[str, Any]], word: str, show: Show) -> dict[Host, dict[str, Any]]:
    """Ask all hosts at once and return their answers; raises the first error when every host has ended."""

    def one(host: Host) -> dict[str, Any]:
        prefix = f"{host.name}: " if len(requests) > 1 else ""
        return call(host, ["backup", word], requests[host], on_progress=lambda line: show(f"{prefix}{line}"))

    with ThreadPoolExecutor(max_workers=len(requests)) as pool:
        running = {host: pool.submit(one, host) for host in requests}
    return {host: future.result() for host, future in running.items()}


def ask_for_engines(where: Placed, word: str, request: dict[str, Any], show: Show) -> dict[Host, dict[str, Any]]:
    """Ask every host as `ask` does, each for the engines that it holds."""
    return ask({host: {**request, "engines": engines} for host, engines in where.items()}, word, show)


def run_backup(
    environment: Environment, engines: Sequence[str] = (), *, on_progress: Show = lambda _: None
) -> dict[str, Any]:
    """Take one backup set of all hosts now and return its view. Raises DbkeepError with the failing host's line."""
    answers = ask_for_engines(placed(environment, engines), "run", {"set_id": set_id_of(now())}, on_progress)
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


def list_sets(environment: Environment, store: str = LOCAL, where: Placed | None = None) -> list[dict[str, Any]]:
    """Return the environment's backup sets on its hosts, or in a store, oldest first. Others than these can be asked.

    `complete` says whether every engine has its part, `copies` which stores have all parts of the set.
    """
    return list(read_catalog(environment, store, where)["sets"])


def read_catalog(environment: Environment, store: str = LOCAL, where: Placed | None = None) -> dict[str, Any]:
    """Return the sets as `list_sets` does, as `errors` what is damaged or does not answer, by host, and the score."""
    where = where or placed(environment)
    by_set: dict[str, dict[str, dict[str, Any]]] = {}
    copies: dict[str, set[str]] = {}
    errors: dict[str, list[str]] = {}
    states: list[dict[str, Any]] = []
    for host in where:
        answer = call(host, ["backup", "list"], {"store": store})
        lines = answer["damaged"] + [state["error"] for state in answer["stores"].values() if state["error"]]
        if lines:
            errors[host.name] = lines
        # A store that hosts share names a part to each of them.
        for part in answer["parts"]:
            by_set.setdefault(part["set_id"], {})[part["engine"]] = part
        states.append(answer)
        for name, state in answer["stores"].items():
            copies.setdefault(name, set()).update(state["parts"])
    expected = {name for names in where.values() for name in names}
    sets = sorted((view(list(parts.values())) for parts in by_set.values()), key=lambda one: str(one["recovery_point"]))
    for found in sets:
        names = {f"{found['set_id']}/{engine}" for engine in found["engines"]}
        found["complete"] = expected <= set(found["engines"])
        found["copies"] = sorted(name for name, there in copies.items() if names <= there)
    newest = next((found for found in reversed(sets) if found["complete"]), None)
    rated = score(newest, states) if store == LOCAL else None
    return {"sets": sets, "stores": sorted(copies), "errors": errors, "score": rated}


def newest_set(
    environment: Environment, engines: Sequence[str] = (), store: str = LOCAL, where: Placed | None = None
) -> str:
    """Return the newest set with a part of every engine asked for; raises UsageError when there is none."""
    wanted = {name for names in placed(environment, engines).values() for name in names}
    for found in reversed(list_sets(environment, store, where)):
        if wanted <= set(found["engines"]):
            return str(found["set_id"])
    place = f"environment {environment.name}" if store == LOCAL else f"store {store}"
    raise UsageError(f"{place} has no set with {', '.join(sorted(wanted))}: `dbkeep backup run`")


def copy_sets(environment: Environment, again: str | None = None, *, on_progress: Show = lambda _: None) -> list[str]:
    """Bring every store what it lacks, and all of set `again`, from every host; return what was copied.

    Raises DbkeepError with the line of a host where a store failed.
    """
    answers = ask({host: {"again": again} for host in placed(environment)}, "copy", on_progress)
    return sorted(
        f"{part} to {name}"
        for answer in answers.values()
        for name, result in answer["stores"].items()
        for part in result["copied"]
    )


def verify_set(environment: Environment, set_id: str, engines: Sequence[str] = (), store: str = ALL) -> dict[str, Any]:
    """Compare a set's stored bytes with its manifests, in every copy or in one store's; return the problems by engine.

    `copies` says of every copy whether all its parts are good.
    """
    answers = ask_for_engines(
        placed(environment, engines), "verify", {"set_id": set_id, "store": store}, lambda _: None
    )
    problems = {engine: found for answer in answers.values() for engine, found in answer["problems"].items()}
    copies: dict[str, bool] = {}
    for answer in answers.values():
        for name, good in answer["copies"].items():
            copies[name] = copies.get(name, True) and good
    return {"set_id": set_id, "ok": all(copies.values()), "copies": copies, "problems": problems}


def prove_stores(environment: Environment, *, prepare: bool = False) -> list[dict[str, Any]]:
    """Return what every host proved of every store, with `prepare` after making it ready: a row for each."""
    answers = ask({host: {"prepare": prepare} for host in placed(environment)}, "stores", lambda _: None)
    return [{"host": host.name, **row} for host, answer in answers.items() for row in answer["stores"]]


def store_policy(environment: Environment, name: str) -> dict[str, Any]:
    """Return what the administrator of an S3 store sets for it: the policy of the hosts' key, the bucket's lifecycle.

    Raises UsageError when the environment has no such store.
    """
    variables = environment.variables
    declared = declared_stores(variables.get("backup_stores") or ())
    for store in declared:
        if store.name == name and isinstance(store, S3StoreSettings):
            kept = ("days", "minimum", "daily", "weekly", "monthly")
            fields = BackupSettings.model_fields
            keep = Keep(**{n: int(variables.get(f"backup_keep_{n}", fields[f"keep_{n}"].default)) for n in kept})
            full = variables.get(
                "backup_postgresql_full_after_days", PostgreSQLBackup.model_fields["full_after_days"].default
            )
            return {"policy": policy(store), "lifecycle": lifecycle(store, keep.span_days, int(full))}
    names = ", ".join(store.name for store in declared if isinstance(store, S3StoreSettings)) or "none"
    raise UsageError(f"backup_stores of environment {environment.name} has no S3 store {name!r}; there is {names}")


def show_set(environment: Environment, set_id: str | None, store: str = LOCAL) -> dict[str, Any]:
    """Return all that the manifests of a set say, the newest one's without an id.

    Raises UsageError when there is none, DbkeepError when one of its parts is damaged or nobody who may signed it.
    """
    found = read_catalog(environment, store)
    for one in reversed(found["sets"]):
        if set_id in (None, one["set_id"]):
            return dict(one)
    bad = [line for lines in found["errors"].values() for line in lines if set_id and f"{set_id}/" in line]
    if bad:
        raise DbkeepError(bad[0])
    raise UsageError(f"there is no set {set_id or 'yet'} in {store}; `dbkeep backup list` shows what there is")


def prune_sets(
    environment: Environment, *, dry_run: bool = False, on_progress: Show = lambda _: None
) -> dict[str, Any]:
    """Let go now, or with `dry_run` only name, what retention does not keep, by host and place."""
    answers = ask({host: {"dry_run": dry_run} for host in placed(environment)}, "prune", on_progress)
    return {"dry_run": dry_run, "hosts": {host.name: answer for host, answer in answers.items()}}


def sign_sets(environment: Environment, *, dry_run: bool = False, on_progress: Show = lambda _: None) -> dict[str, Any]:
    """Sign, or with `dry_run` only name, the parts on the hosts that have no signature: `parts` by host."""
    answers = ask({host: {"dry_run": dry_run} for host in placed(environment)}, "sign", on_progress)
    return {"dry_run": dry_run, "parts": {host.name: answer["parts"] for host, answer in answers.items()}}


def vault_identity(environment: Environment) -> str:
    """Return the age identity in the environment's vault; raises UsageError when it is kept elsewhere."""
    identity = environment.secrets.get("backup", {}).get("age_identity")
    if not identity:
        raise UsageError(
            f"inventory/{environment.name}: the vault has no backup.age_identity; give the identity's file with "
            "--identity-file"
        )
    return str(identity)


def keep(
    environment: Environment, kind: str, started: datetime, *, passed: bool, observed: dict[str, Any]
) -> dict[str, Any]:
    """Write a record of `kind` to the checkout's evidence/ENV and return it."""
    evidence = record(kind, started=started, passed=passed, observed=observed)
    write(evidence, checkout() / "evidence" / environment.name)
    return evidence
