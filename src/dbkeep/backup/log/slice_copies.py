"""Copies of the host's slices in its stores: what a store lacks goes there, and what no set there needs goes away."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import PurePosixPath

from dbkeep.backup.log.slices import Slice, local_keys, log_folder, parse_slice, read_slice, slice_keys
from dbkeep.backup.sealed_file import check
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.store import DirectoryStore, Store, StoreError
from dbkeep.errors import DbkeepError

HOUR = len("20261128T08")
Settled = set[tuple[str, str, str]]


def copy_slices(host: BackupHost, store: Store, settled: Settled | None = None) -> int:
    """Bring a store the slices of this host that it lacks, oldest first, and return how many.

    The store is asked hour by hour, so that a round needs one short answer an engine: past hours that are complete
    there are noted in `settled` and not asked for again.

    Raises StoreError at once when the store fails, DbkeepError that names what is damaged here after the others.
    """
    settled = set() if settled is None else settled
    copied, faults = 0, []
    for engine in host.engines:
        hours = [list(keys) for _, keys in groupby(local_keys(host.settings.repository, engine), _hour)]
        for keys in hours:
            mark = (store.name, engine, _hour(keys[0]))
            if mark in settled:
                continue
            there = store.sizes(f"{log_folder(engine)}/{_hour(keys[0])}")
            lacking = [key for key in keys if key not in there]
            for key in lacking:
                try:
                    _copy(host, store, key, there)
                    copied += 1
                except StoreError:
                    raise
                except DbkeepError as error:
                    faults.append(f"store {store.name}: {error}")
            if keys is not hours[-1] and not faults:
                settled.add(mark)
    if faults:
        raise DbkeepError("; ".join(faults))
    return copied


def _hour(key: str) -> str:
    """Return the beginning of a slice's name up to the hour, which is of the last of the moments in it."""
    name = PurePosixPath(key).name
    return name[: name.rfind("_") + 1 + HOUR]


def _copy(host: BackupHost, store: Store, key: str, there: dict[str, int]) -> None:
    repository = host.settings.repository
    try:
        content = (repository / key).read_bytes()
    except OSError as error:
        raise DbkeepError(f"{repository / key}: cannot be read: {error.strerror}") from None
    for stored in parse_slice(content, key, str(repository / key), host.settings.signing_keys).stored_files():
        if there.get(stored.name) != stored.size:
            check(repository, stored)
            store.put(stored.name, repository / stored.name, stored.sha256)
    # The record last: with it the slice is there.
    store.put(key, repository / key, hashlib.sha256(content).hexdigest())


def read_slice_of(host: BackupHost, store: Store | None, key: str) -> Slice:
    """Return one slice of this host's repository, or of a store. Raises StoreError, DbkeepError for a damaged one."""
    if store is None:
        return read_slice(host.settings.repository, key, host.settings.signing_keys)
    return _read_copy(store, key, host.settings.signing_keys)


def _read_copy(store: Store, key: str, signing_keys: Sequence[str]) -> Slice:
    content = io.BytesIO()
    store.get(key, content)
    return parse_slice(content.getvalue(), key, f"store {store.name}: {key}", signing_keys)


def read_slice_copies(store: Store, engine: str, signing_keys: Sequence[str]) -> Iterator[Slice]:
    """Yield the slices of an engine that a store holds, oldest first; raises DbkeepError for one that is damaged."""
    for key in slice_keys(store.sizes(f"{log_folder(engine)}/"), engine):
        yield _read_copy(store, key, signing_keys)


def prune_slice_copies(store: DirectoryStore, engine: str, oldest_kept: str) -> None:
    """Remove the slices that end before the place of the oldest set that the store keeps. Raises StoreError."""
    limit = f"{log_folder(engine)}/{oldest_kept}"
    # A record goes before its files: what is left of a slice without one is no slice.
    for key in sorted(store.sizes(f"{log_folder(engine)}/"), key=lambda key: not key.endswith(".json")):
        if key < limit:
            store.remove(key)
