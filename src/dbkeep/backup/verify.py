"""Compares the stored bytes of sets with their manifests, here and in the stores, without decrypting anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from dbkeep.backup.lock import hold
from dbkeep.backup.log.slices import Slice
from dbkeep.backup.log.verify import verify_log
from dbkeep.backup.manifest import Part, part_engines, read_part
from dbkeep.backup.run import LOCK
from dbkeep.backup.sealed_file import check
from dbkeep.backup.settings import ALL, LOCAL, BackupHost
from dbkeep.backup.stores.copies import parts_of, read_copy, verify_copy
from dbkeep.backup.stores.store import Store, open_store
from dbkeep.errors import DbkeepError, UsageError


def verify_part(host: BackupHost, part: Part) -> list[str]:
    """Return what is wrong with one part; an empty list when every stored byte is as it was written."""
    problems = []
    for stored in part.stored_files():
        try:
            check(host.settings.repository, stored)
        except DbkeepError as error:
            problems.append(str(error))
    # What is fetched from a store is one set: pgBackRest would miss all the others.
    if part.engine == "postgresql" and not (host.settings.postgresql and host.settings.postgresql.repository):
        from dbkeep.backup import postgresql  # noqa: PLC0415 - hosts without PostgreSQL do not load its driver

        if host.settings.postgresql is None:
            raise UsageError(f"set {part.set_id} has a postgresql part, backup.json has none; run playbooks/site.yml")
        try:
            problems += postgresql.verify(host, part)
        except DbkeepError as error:
            problems.append(str(error))
    return problems


def verify_slices(host: BackupHost, slices: Iterable[Slice]) -> list[str]:
    """Return what is wrong with the stored bytes of slices; an empty list when every one is as it was written."""
    problems = []
    for stored in (stored for found in slices for stored in found.stored_files()):
        try:
            check(host.settings.repository, stored)
        except DbkeepError as error:
            problems.append(str(error))
    return problems


def verify(host: BackupHost, set_id: str, engines: Sequence[str] | None = None, store: str = ALL) -> dict[str, Any]:
    """Check the parts of a set, and the slices of the log up to the next set, on this host and in every store.

    Returns problems by engine; `store` is for one of these places alone.

    `copies` says which copies are good. Raises UsageError when the set is not on this host, or not in the one store
    that was asked for; BusyError when retention removes it right now; StoreError when that one store does not answer.
    """
    if store == ALL:
        found = {LOCAL: _verify_here(host, set_id, engines)}
        for settings in host.settings.stores:
            try:
                found[settings.name] = _verify_copy(host, set_id, engines, settings.name)
            except DbkeepError as error:
                found[settings.name] = {engine: [str(error)] for engine in engines or found[LOCAL]}
    else:
        one = _verify_here(host, set_id, engines) if store == LOCAL else _verify_copy(host, set_id, engines, store)
        found = {store: one}
    copies = {name: not any(problems.values()) for name, problems in found.items()}
    merged: dict[str, list[str]] = {}
    for problems in found.values():
        for engine, lines in problems.items():
            merged[engine] = merged.get(engine, []) + lines
    return {"set_id": set_id, "ok": all(copies.values()), "copies": copies, "problems": merged}


def _verify_here(host: BackupHost, set_id: str, engines: Sequence[str] | None) -> dict[str, list[str]]:
    there = part_engines(host.sets, set_id) if (host.sets / set_id).is_dir() else []
    if not there:
        raise UsageError(f"set {set_id} is not on this host; `dbkeep backup list` shows what there is")
    problems: dict[str, list[str]] = {}
    with hold(host.sets / set_id / LOCK, f"verify, process {os.getpid()}", shared=True):
        for engine in engines or there:
            try:
                part = read_part(host.sets, set_id, engine, host.settings.signing_keys)
                problems[engine] = verify_part(host, part) + verify_log(host, part)
            except DbkeepError as error:
                problems[engine] = [str(error)]
    return problems


def _verify_copy(host: BackupHost, set_id: str, engines: Sequence[str] | None, name: str) -> dict[str, list[str]]:
    store = open_store(host, name)
    there = [engine for found, engine in sorted(parts_of(store.sizes("sets/"))) if found == set_id]
    if not there:
        raise UsageError(f"set {set_id} is not in store {name}; `dbkeep backup copy` brings what is missing")
    return {e: _verify_one(host, store, set_id, e) for e in engines or there if e in host.engines}


def _verify_one(host: BackupHost, store: Store, set_id: str, engine: str) -> list[str]:
    keys = host.settings.signing_keys
    problems = verify_copy(store, set_id, engine, keys)
    # Without a good manifest nobody knows where the log begins; the problem is named.
    return problems if problems else verify_log(host, read_copy(store, set_id, engine, keys), store)
