"""Copies of the host's parts in its stores: which are missing there, bringing them, and letting old ones go.

A copy is made from the complete part, so a store that fails loses nothing but its own copy, and the next run brings
what it lacks: an hour without the store costs nothing else. The manifest goes last, as it does on the host.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, cast

from dbkeep.backup import points
from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.log.slice_copies import copy_slices, prune_slice_copies, read_slice_copies
from dbkeep.backup.manifest import (
    FILE_NAME,
    SIGNATURE_NAME,
    SUMS_NAME,
    Part,
    StoredFile,
    Written,
    parse_part,
    part_engines,
    part_folder,
    read_part,
    set_ids,
    time_of,
)
from dbkeep.backup.retention import expired_sets
from dbkeep.backup.sealed_file import Digest, check, compare
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.store import DirectoryStore, Store, StoreError, open_store
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now, record, write

LOCK = ".lock"
Name = tuple[str, str]
_MANIFEST = re.compile(rf"sets/(\d{{8}}T\d{{6}}Z)/([a-z]+)/{re.escape(FILE_NAME)}")


@dataclass
class Result:
    """What came of the copy to one store: parts as ID/ENGINE, and why others are not there."""

    copied: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def parts_of(keys: Iterable[str]) -> set[Name]:
    """Return the complete parts, as set id and engine, that a store with these keys holds."""
    return {(found[1], found[2]) for key in keys if (found := _MANIFEST.fullmatch(key))}


def missing(here: Iterable[Name], there: set[Name]) -> list[Name]:
    """Return the parts that a store lacks, the newest set first: it is the one that matters most."""
    return sorted(set(here) - there, reverse=True)


def local_parts(host: BackupHost) -> list[Name]:
    """Return the complete parts on this host."""
    return [(set_id, engine) for set_id in set_ids(host.sets) for engine in part_engines(host.sets, set_id)]


def copy_all(host: BackupHost, again: str | None = None, *, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Bring every store what it lacks, and all of set `again`; keep a record of it and return the parts by store.

    Raises DbkeepError that names every store and part that failed, after the others are done.
    """
    started = now()
    results = {settings.name: Result() for settings in host.settings.stores}
    for name, result in results.items():
        try:
            with hold(host.settings.repository / f".{name}{LOCK}", f"copy to store {name}"):
                _copy(host, open_store(host, name), again, result, progress)
        except DbkeepError as error:
            result.failed.append(str(error))
    faults = [fault for result in results.values() for fault in result.failed]
    observed = {"stores": {name: asdict(result) for name, result in results.items()}}
    if results:
        write(record("copy", started=started, passed=not faults, observed=observed), host.settings.evidence)
    if faults:
        raise DbkeepError("; ".join(faults))
    return observed


def _copy(host: BackupHost, store: Store, again: str | None, result: Result, progress: Progress) -> None:
    store.discard_unfinished(host.engines)
    keys = store.sizes("")
    # A copy without its signature is one of before it was signed here.
    signed = {name for name in parts_of(keys) if f"{part_folder(*name)}/{SIGNATURE_NAME}" in keys}
    there = {name for name in signed if name[0] != again}
    for set_id, engine in missing(local_parts(host), there):
        try:
            with hold(host.sets / set_id / LOCK, f"copy to store {store.name}", shared=True):
                part = read_part(host.sets, set_id, engine, host.settings.signing_keys)
                sent = copy_part(host, store, part, {} if set_id == again else keys)
        except StoreError:
            raise
        except DbkeepError as error:
            # Something of this part is wrong here: the other parts can still go.
            result.failed.append(f"store {store.name}: set {set_id}, {engine}: {error}")
            continue
        keys |= sent
        result.copied.append(f"{set_id}/{engine}")
        progress(f"{engine}: set {set_id}: {sum(sent.values())} bytes copied to store {store.name}")
    copy_slices(host, store)
    points.copy_points(host, store, keys)
    if isinstance(store, DirectoryStore):
        for set_id in prune_copies(host, store):
            progress(f"set {set_id} removed from store {store.name}: retention lets it go")
        _prune_log_copies(host, store)


def _prune_log_copies(host: BackupHost, store: DirectoryStore) -> None:
    """Let go the points and slices before the oldest set there, unless a damaged manifest hides which one that is."""
    damaged: list[str] = []
    kept = read_copies(store, host.settings.signing_keys, damaged)
    if damaged or not kept:
        return
    oldest = points.oldest_places(kept)
    points.prune_copies(host, store, oldest)
    for engine in oldest.keys() & set(host.engines):
        prune_slice_copies(store, engine, oldest[engine])


def copy_part(host: BackupHost, store: Store, part: Part, there: Mapping[str, int]) -> dict[str, int]:
    """Bring a store the files of a part that are not `there`, then its manifest; return what was sent and its sizes.

    Raises StoreError, and DbkeepError when a file here is not as the manifest says: damage is never copied.
    """
    sent = {}
    repository = host.settings.repository
    for stored in part.stored_files():
        if there.get(stored.name) != stored.size:
            check(repository, stored)
            store.put(stored.name, repository / stored.name, stored.sha256)
            sent[stored.name] = stored.size
    for name in (SUMS_NAME, SIGNATURE_NAME, FILE_NAME):
        content = (repository / part.folder / name).read_bytes()
        store.put(f"{part.folder}/{name}", repository / part.folder / name, hashlib.sha256(content).hexdigest())
    return sent


def read_copy(store: Store, set_id: str, engine: str, signing_keys: Sequence[str]) -> Part:
    """Return the manifest of a part in a store; raises StoreError when it is not there, DbkeepError when no host of the
    environment signed it or it is damaged.
    """
    written, folder = read_written_copy(store, set_id, engine), part_folder(set_id, engine)
    return parse_part(written, folder, f"store {store.name}: {folder}/{FILE_NAME}", signing_keys)


def read_written_copy(store: Store, set_id: str, engine: str) -> Written:
    """Return what says what a part in a store is; raises StoreError when it is not there."""
    time_of(set_id)
    folder = part_folder(set_id, engine)
    is_signed = f"{folder}/{SIGNATURE_NAME}" in store.sizes(f"{folder}/")
    return Written(
        _content(store, f"{folder}/{FILE_NAME}"),
        _content(store, f"{folder}/{SUMS_NAME}"),
        _content(store, f"{folder}/{SIGNATURE_NAME}") if is_signed else None,
    )


def _content(store: Store, key: str) -> bytes:
    content = io.BytesIO()
    store.get(key, content)
    return content.getvalue()


def read_copies(store: Store, signing_keys: Sequence[str], damaged: list[str] | None = None) -> list[Part]:
    """Return the manifests of all parts in a store, by recovery point, oldest first.

    One that is damaged or not signed is left out; why goes to `damaged`. Raises StoreError.
    """
    parts = []
    for name in parts_of(store.sizes("sets/")):
        try:
            parts.append(read_copy(store, *name, signing_keys))
        except StoreError:
            raise
        except DbkeepError as error:
            (damaged if damaged is not None else []).append(str(error))
    return sorted(parts, key=lambda part: part.recovery_point.order)


def newest_copy(store: Store, engines: tuple[str, ...], signing_keys: Sequence[str]) -> str:
    """Return the newest set in a store that has a part of every engine; raises UsageError when there is none."""
    parts = read_copies(store, signing_keys)
    for part in reversed(parts):
        if set(engines) <= {other.engine for other in parts if other.set_id == part.set_id}:
            return part.set_id
    raise UsageError(f"store {store.name} has no set with {', '.join(engines)}; `dbkeep backup list --store` shows all")


def verify_copy(store: Store, set_id: str, engine: str, signing_keys: Sequence[str]) -> list[str]:
    """Read every byte of a part in a store and return what is not as it was written."""
    try:
        part = read_copy(store, set_id, engine, signing_keys)
    except DbkeepError as error:
        return [str(error)]
    problems = []
    for stored in part.stored_files():
        try:
            fetch_file(store, stored, None)
        except DbkeepError as error:
            problems.append(str(error))
    return problems


def fetch_file(store: Store, stored: StoredFile, target: BinaryIO | None) -> None:
    """Read a file of a store, to `target` if there is one; raises DbkeepError when it is not as the manifest says."""
    digest = Digest(target)
    store.get(stored.name, cast(BinaryIO, digest))
    compare(f"store {store.name}: {stored.name}", digest.size, digest.hexdigest(), stored)


def expired_copies(host: BackupHost, store: Store) -> list[str]:
    """Return the sets of this host's engines in a store that retention lets go, oldest first."""
    return expired_sets(host, sorted({set_id for set_id, _ in _own_parts(host, store)}))


def _own_parts(host: BackupHost, store: Store) -> set[Name]:
    return {name for name in parts_of(store.sizes("sets/")) if name[1] in host.engines}


def prune_copies(host: BackupHost, store: DirectoryStore) -> list[str]:
    """Remove the parts of this host's engines that retention lets go from a directory, and return their set ids.

    Files of pgBackRest go when no part that stays needs them. Raises DbkeepError when a manifest there is damaged:
    then nobody knows what it needs.
    """
    names, gone = _own_parts(host, store), expired_copies(host, store)
    for set_id, engine in names:
        if set_id in gone:
            keys = store.sizes(f"{part_folder(set_id, engine)}/")
            # The manifest first: what is left of a part without one is no part.
            for key in sorted(keys, key=lambda key: not key.endswith(FILE_NAME)):
                store.remove(key)
    if gone and "postgresql" in host.engines:
        staying = [
            read_copy(store, *name, host.settings.signing_keys)
            for name in names
            if name[0] not in gone and name[1] == "postgresql"
        ]
        needed = {stored.name for part in staying for stored in part.stored_files()}
        since = min((part.recovery_point.place for part in staying), default=None)
        needed |= {
            stored.name
            for found in read_slice_copies(store, "postgresql", host.settings.signing_keys)
            if since is not None and found.name >= since
            for stored in found.repository_files
        }
        for key in store.sizes("postgresql/").keys() - needed:
            store.remove(key)
    return gone
