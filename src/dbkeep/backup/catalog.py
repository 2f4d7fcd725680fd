"""What there is to restore from: the sets of this host, and which of its stores hold a copy of which part."""

from __future__ import annotations

from typing import Any

from dbkeep import evidence
from dbkeep.backup.manifest import FILE_NAME, part_folder, read_sets
from dbkeep.backup.score import score
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.stores.copies import Name, parts_of, read_copies
from dbkeep.backup.stores.store import Store, open_store
from dbkeep.errors import DbkeepError


def catalog(host: BackupHost, store: str = LOCAL) -> dict[str, Any]:
    """Return the manifests of the sets on this host, or in a store, oldest first, and the state of every store.

    `damaged` has a line for every manifest that cannot be used.

    A store that does not answer has its reason as `error` and no parts. Raises StoreError when it is the one asked for.
    """
    damaged: list[str] = []
    if store == LOCAL:
        found = [part for parts in read_sets(host.sets, host.settings.signing_keys, damaged) for part in parts.values()]
    else:
        found = read_copies(open_store(host, store), host.settings.signing_keys, damaged)
    return {
        "parts": [part.model_dump(mode="json") for part in found],
        "damaged": damaged,
        "stores": stores(host),
        "drill": last_drill(host),
    }


def stores(host: BackupHost) -> dict[str, dict[str, Any]]:
    """Return for every store what it is, the parts that it holds as ID/ENGINE, and its error if any.

    `locked` are those parts of this host's newest set that nobody can delete now, as the store itself says.
    """
    states: dict[str, dict[str, Any]] = {}
    newest = newest_here(host)
    for settings in host.settings.stores:
        state: dict[str, Any] = {"off_host": settings.off_host, "type": settings.type, "parts": [], "locked": []}
        state["error"] = None
        states[settings.name] = state
        try:
            store = open_store(host, settings.name)
            names = sorted(parts_of(store.sizes("sets/")))
            state["parts"] = ["/".join(name) for name in names]
            state["locked"] = ["/".join(name) for name in names if name[0] == newest and is_locked(store, name)]
        except DbkeepError as error:
            state["error"] = str(error)
    return states


def is_locked(store: Store, name: Name) -> bool:
    """Say whether the store keeps the manifest of a part from being deleted now. Raises StoreError."""
    return store.is_locked(f"{part_folder(*name)}/{FILE_NAME}")


def last_drill(host: BackupHost) -> dict[str, Any] | None:
    """Return of the newest drill on this host what it drilled, when, and how many things were wrong with it."""
    record = next(evidence.read_all("drill", host.settings.evidence), None)
    if record is None:
        return None
    observed = record["observed"]
    results = observed.get("engines", {}).values()
    wrong = sum(not assertion["holds"] for result in results for assertion in result["assertions"])
    errors = wrong + sum(bool(result["error"]) for result in results)
    return {
        "set_id": observed.get("set_id"),
        "store": observed.get("store"),
        "at": record["finished_at"],
        # A drill that failed in another way is one error.
        "errors": errors if record["result"] == "passed" else max(1, errors),
    }


def score_here(host: BackupHost) -> dict[str, Any]:
    """Return the 3-2-1-1-0 score of the newest set with all engines of this host."""
    found, newest = catalog(host), newest_here(host)
    if newest is None:
        return score(None, [found])
    parts = {f"{newest}/{engine}" for engine in host.engines}
    copies = [name for name, state in found["stores"].items() if parts <= set(state["parts"])]
    return score({"set_id": newest, "engines": host.engines, "copies": copies}, [found])


def newest_here(host: BackupHost) -> str | None:
    """Return the newest set on this host with all of its engines, by recovery point; None when there is none."""
    sets = read_sets(host.sets, host.settings.signing_keys)
    complete = (parts for parts in reversed(sets) if set(host.engines) <= parts.keys())
    return next((part.set_id for parts in complete for part in parts.values()), None)
