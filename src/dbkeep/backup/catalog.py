"""What there is to restore from: the sets of this host, and which of its stores hold a copy of which part."""

from __future__ import annotations

from typing import Any

from dbkeep.backup.copies import parts_of, read_copies
from dbkeep.backup.manifest import read_sets
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.store import open_store
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
    return {"parts": [part.model_dump(mode="json") for part in found], "damaged": damaged, "stores": stores(host)}


def stores(host: BackupHost) -> dict[str, dict[str, Any]]:
    """Return for every store whether it is off the host, the parts that it holds as ID/ENGINE, and its error if any."""
    states: dict[str, dict[str, Any]] = {}
    for settings in host.settings.stores:
        state: dict[str, Any] = {"off_host": settings.off_host, "parts": [], "error": None}
        states[settings.name] = state
        try:
            keys = open_store(host, settings.name).sizes("sets/")
            state["parts"] = ["/".join(name) for name in sorted(parts_of(keys))]
        except DbkeepError as error:
            state["error"] = str(error)
    return states
