"""Carries MongoDB, loaded from a set, on to a later moment: the slices after the set's point, replayed by applyOps."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from bson import Timestamp, decode_file_iter
from pymongo.errors import OperationFailure

from dbkeep.backup.job import Progress
from dbkeep.backup.log.mongodb import ENGINE, order, timestamp
from dbkeep.backup.log.slices import Slice, chain_after, log_folder, read_slices
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.raw_reply import RAW
from dbkeep.backup.restore.oplog_operations import TEMPORARY, Command, Entry, Write, operations
from dbkeep.backup.sealed_file import check, inflate, unseal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, describe

BATCH_OPERATIONS = 500
BATCH_BYTES = 8 << 20
PROGRESS_SECONDS = 5
NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS, UPDATE_FAILED = 26, 48, 218


def chain_to(host: BackupHost, part: Part, target: RecoveryPoint) -> list[Slice]:
    """Return the slices from the set's point to `target`, after checking their stored bytes.

    `target.name` is a cluster time; without one it is the time `target.at`, to the millisecond of the server's clock.
    Raises UsageError for a target before the set's point, DbkeepError for a gap or a damaged slice, by name.
    """
    point = part.recovery_point
    if order(target.name) < order(point.name) if target.name else target.place < point.place:
        raise UsageError(f"mongodb: the target is before the point of set {part.set_id}; choose an earlier set")
    damaged: list[str] = []
    slices = read_slices(host.settings.repository, ENGINE, host.settings.signing_keys, damaged)
    try:
        chain = chain_after(slices, point.name, target.name or target, order)
    except DbkeepError as error:
        raise DbkeepError("; ".join([str(error), *damaged])) from None
    for found in chain:
        for stored in found.stored_files():
            check(host.settings.repository, stored)
    return chain


def carry_on(
    host: BackupHost,
    part: Part,
    identity: str,
    workspace: Path,
    target: RecoveryPoint | None,
    *,
    progress: Progress = lambda _: None,
) -> Replay:
    """Return what replays the log up to `target` on a server that has the set's data, for `load`; nothing without one.

    Raises as `chain_to` does, before anything is touched.
    """
    chain = [] if target is None else chain_to(host, part, target)
    return Replay(host, part, identity, workspace, target, chain, progress)


@dataclass
class Replay:
    """Replays a chain of slices when it is called; `last` is then the cluster time of the last entry it came to."""

    host: BackupHost
    part: Part
    identity: str = field(repr=False)
    workspace: Path
    target: RecoveryPoint | None
    chain: list[Slice]
    progress: Progress
    last: Timestamp | None = None

    def __call__(self, client: Client) -> None:
        if self.target is None:
            return
        entries = _entries(self.host, self.chain, self.identity, self.workspace)
        wanted = _between(entries, timestamp(self.part.recovery_point.name), self.target)
        replay(client, self._noted(wanted), self.host.with_mongodb()[1].database, self.progress)

    def _noted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self.last = entry["ts"]
            yield entry


def _entries(host: BackupHost, chain: list[Slice], identity: str, workspace: Path) -> Iterator[Entry]:
    folder = host.settings.repository / log_folder(ENGINE)
    opened = workspace / "slice.oplog.zst"
    for found in chain:
        for stored in found.files:
            unseal(folder, stored, opened, identity)
            with inflate(opened) as stream:
                yield from decode_file_iter(io.BufferedReader(cast(io.RawIOBase, stream), 1 << 20), RAW)
    opened.unlink(missing_ok=True)


def _between(entries: Iterable[Entry], after: Timestamp, target: RecoveryPoint) -> Iterator[Entry]:
    last = timestamp(target.name) if target.name else None
    for entry in entries:
        # Before a clock was set back they may be of a later time than the target.
        if entry["ts"] <= after:
            continue
        if entry["ts"] > last if last is not None else _wall(entry) > target.at:
            return
        yield entry


def _wall(entry: Entry) -> datetime:
    # BSON dates are UTC; raw documents give them without a zone.
    moment: datetime = entry["wall"].replace(tzinfo=UTC)
    return moment


def replay(client: Client, entries: Iterable[Entry], database: str, progress: Progress = lambda _: None) -> int:
    """Apply what `entries` of the oplog did to `database` and to the accounts, and return how many operations it were.

    Accounts change in the temporary collections that `load` merges. Validators do not apply: they did when it was
    written. Raises DbkeepError when the server refuses an operation.
    """
    for name in TEMPORARY.values():
        _allowing(NAMESPACE_EXISTS, client, "admin", {"create": name})
    batch = Batch(client, progress)
    for operation in operations(entries, database):
        batch.add(operation)
    batch.flush()
    progress(f"mongodb: {batch.applied} operations of the oplog applied")
    return batch.applied


class Batch:
    """Collects changes of documents, which go to the server together; everything else goes alone, in its turn."""

    def __init__(self, client: Client, progress: Progress) -> None:
        self._client = client
        self._progress = progress
        self._told = time.monotonic()
        self._waiting: list[dict[str, Any]] = []
        self._size = 0
        self.applied = 0

    def add(self, operation: Write | Command) -> None:
        if isinstance(operation, Command):
            self.flush()
            self._send(operation)
        elif operation.account:
            self.flush()
            # Accounts are dumped a moment after the point: a user that is gone in the dump needs no change any more.
            self._apply([operation.operation], allowed=UPDATE_FAILED)
        else:
            size = len(operation.operation["o"].raw)
            # A batch is one document of the server's, and one operation alone may fill it.
            if len(self._waiting) >= BATCH_OPERATIONS or self._size + size > BATCH_BYTES:
                self.flush()
            self._waiting.append(operation.operation)
            self._size += size

    def flush(self) -> None:
        if self._waiting:
            self._apply(self._waiting)
        self._waiting, self._size = [], 0

    def _apply(self, batch: list[dict[str, Any]], allowed: int | None = None) -> None:
        _allowing(
            allowed,
            self._client,
            "admin",
            {"applyOps": batch, "alwaysUpsert": False, "bypassDocumentValidation": True},
        )
        self.applied += len(batch)
        if time.monotonic() - self._told > PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._progress(f"mongodb: {self.applied} operations of the oplog applied so far")

    def _send(self, operation: Command) -> None:
        # A drop or an index of a collection that never got a document may find nothing to do.
        allowed = NAMESPACE_NOT_FOUND if "drop" in operation.command else None
        _allowing(allowed, self._client, operation.database, operation.command)
        self.applied += 1


def _allowing(code: int | None, client: Client, database: str, command: dict[str, Any]) -> None:
    try:
        client[database].command(command)
    except OperationFailure as error:
        if code is None or error.code != code:
            name = next(iter(command))
            raise DbkeepError(f"mongodb {database}: the oplog cannot be replayed: {name}: {describe(error)}") from None


@contextmanager
def expiry_paused(client: Client) -> Iterator[None]:
    """Keep the server from removing expired documents, which the log still changes, during the block."""
    before = client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})["was"]
    try:
        yield
    finally:
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": before})
