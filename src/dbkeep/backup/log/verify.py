"""Compares the slices that carry a part on, up to the next set, with their records, here or in a store."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import PurePosixPath

from dbkeep.backup.log.slice_copies import read_slice_of
from dbkeep.backup.log.slices import Slice, gap, local_keys, log_folder, slice_keys
from dbkeep.backup.manifest import Part, read_sets
from dbkeep.backup.sealed_file import check
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.copies import fetch_file
from dbkeep.backup.stores.store import Store
from dbkeep.errors import DbkeepError


def verify_log(host: BackupHost, part: Part, store: Store | None = None) -> list[str]:
    """Return what is wrong with these slices: altered, truncated or missing. A log that was lost is no damage.

    Raises StoreError when the store does not answer.
    """
    problems: list[str] = []
    before: Slice | None = None
    for key in _keys(host, part, store):
        try:
            found = read_slice_of(host, store, key)
        except DbkeepError as error:
            problems.append(str(error))
            before = None
            continue
        if before and not found.begins_chain and found.first != before.last:
            problems.append(("" if store is None else f"store {store.name}: ") + gap(before, found))
        problems += _verify(host, found, store)
        before = found
    return problems


def _keys(host: BackupHost, part: Part, store: Store | None) -> list[str]:
    repository, folder = host.settings.repository, log_folder(part.engine)
    keys = slice_keys(store.sizes(f"{folder}/"), part.engine) if store else local_keys(repository, part.engine)
    names = [PurePosixPath(key).stem for key in keys]
    places = [
        parts[part.engine].recovery_point.place
        for parts in read_sets(host.sets, host.settings.signing_keys)
        if part.engine in parts
    ]
    own = part.recovery_point.place
    later = [where for where in places if where > own]
    end = bisect_left(names, min(later)) + 1 if later else len(keys)
    return keys[bisect_left(names, own) : end]


def _verify(host: BackupHost, found: Slice, store: Store | None) -> list[str]:
    problems = []
    for stored in found.stored_files():
        try:
            if store is None:
                check(host.settings.repository, stored)
            else:
                fetch_file(store, stored, None)
        except DbkeepError as error:
            problems.append(str(error))
    return problems
