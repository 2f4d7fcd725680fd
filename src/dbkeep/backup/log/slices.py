"""Slices: sealed pieces of an engine's log, each between two positions, so that a set can be carried on to a moment.

A slice is REPOSITORY/log/ENGINE/NAME.json, written last, and the files that it names beside it; in a store its keys are
the same paths. NAME is the place at which it ends (dbkeep.backup.clock), so that names sort as slices were cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field

from dbkeep.backup.clock import after_at, place
from dbkeep.backup.manifest import RecoveryPoint, StoredFile
from dbkeep.backup.signed_record import SignedRecord, parse_signed
from dbkeep.errors import DbkeepError
from dbkeep.files import write_atomically

FOLDER = "log"
# Held while logs are cut, and by a restore.
LOCK = ".ship.lock"
FORMAT = 1
SUFFIX = ".json"
AFTER, STARTED_AFTER = "after", "started_after"
Order = Callable[[str], Any]


class Slice(SignedRecord):
    """What an engine logged after position `first` up to and including position `last`.

    A restore to any moment in (`started_at`, `ended_at`] needs it. With `begins_chain` what was before it is not
    continuous with it: only a set whose point is at `first` or later can be carried on by it. `files` are in the folder
    of the engine's log, `repository_files` are named by their path below the repository: files of pgBackRest.
    `details` say in `after` and `started_after` what is in front of the two moments in their places, if anything is.
    """

    format: int = FORMAT
    engine: str
    host: str
    first: str
    last: str
    started_at: datetime
    ended_at: datetime
    begins_chain: bool
    files: tuple[StoredFile, ...] = ()
    repository_files: tuple[StoredFile, ...] = ()
    recipients: tuple[str, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return place(self.ended_at, self.after)

    @property
    def after(self) -> str:
        """What is in front of `ended_at` in its place: where the clock was set back, when it has not passed that."""
        return str(self.details.get(AFTER, ""))

    @property
    def start(self) -> str:
        """The place of `started_at`."""
        return place(self.started_at, str(self.details.get(STARTED_AFTER, "")))

    @property
    def key(self) -> str:
        """The path of the slice's record below the repository, which is its key in a store."""
        return f"{log_folder(self.engine)}/{self.name}{SUFFIX}"

    def stored_files(self) -> Iterator[StoredFile]:
        """Yield every file that the slice needs, named by its path below the repository."""
        for stored in self.files:
            yield stored.model_copy(update={"name": f"{log_folder(self.engine)}/{stored.name}"})
        yield from self.repository_files


def log_folder(engine: str) -> str:
    """Return the folder of an engine's slices below the repository."""
    return f"{FOLDER}/{engine}"


def end_after(newest: Slice | None, moment: datetime) -> tuple[datetime, dict[str, str]]:
    """Return when a slice ends that is cut at `moment` and follows on `newest`, and its details of that place.

    A clock that was set back by a second or two puts no slice before another one.
    """
    after = after_at(newest.name if newest else None, moment)
    if newest and after == newest.after:
        moment = max(moment, newest.ended_at + timedelta(microseconds=1))
    return moment, {AFTER: after} if after else {}


def started_after(after: str) -> dict[str, str]:
    """Return the details of a slice that say so, if there is anything in front of the moment at which it starts."""
    return {STARTED_AFTER: after} if after else {}


def parse_slice(content: bytes, key: str, where: str, signing_keys: Sequence[str]) -> Slice:
    """Return the slice whose record was stored as `key`.

    Raises DbkeepError, naming `where`, when it is altered or no host of the environment signed it.
    """
    instead = "restore to a moment before it, or after a later set"
    return parse_signed(Slice, content, key, signing_keys, where=where, instead=instead)


def read_slice(repository: Path, key: str, signing_keys: Sequence[str]) -> Slice:
    """Return one slice of a repository; raises DbkeepError when its record cannot be read or as `parse_slice` does."""
    path = repository / key
    try:
        return parse_slice(path.read_bytes(), key, str(path), signing_keys)
    except OSError as error:
        raise DbkeepError(f"{path}: cannot be read: {error.strerror}") from None


def write_slice(repository: Path, found: Slice, key_file: Path) -> Slice:
    """Sign and write the record of a slice whose files are complete; from here on the slice exists. Returns it signed.

    Raises DbkeepError when there is one of that name already, UsageError for a key file that is not right.
    """
    signed = found.signed(key_file)
    keep_slice(repository, signed)
    return signed


def keep_slice(repository: Path, found: Slice) -> None:
    """Write the record of a slice as it was signed. Raises DbkeepError when there is one of that name already."""
    path = repository / found.key
    if path.exists():
        raise DbkeepError(f"{path}: there is a slice that ends at this moment already; look at the host's clock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, found.render(), mode=0o600)


def slice_keys(keys: Iterable[str], engine: str) -> list[str]:
    """Return those of `keys` that are records of an engine's slices, oldest first."""
    prefix = f"{log_folder(engine)}/"
    return sorted(key for key in keys if key.startswith(prefix) and key.endswith(SUFFIX) and key[len(prefix)] != ".")


def local_keys(repository: Path, engine: str) -> list[str]:
    """Return the keys of an engine's slices in a repository, oldest first, reading none."""
    folder = repository / log_folder(engine)
    names = (entry.name for entry in os.scandir(folder)) if folder.is_dir() else ()
    return slice_keys((f"{log_folder(engine)}/{name}" for name in names), engine)


def read_slices(
    repository: Path, engine: str, signing_keys: Sequence[str], damaged: list[str] | None = None
) -> list[Slice]:
    """Return an engine's slices, oldest first.

    One whose record is damaged is left out, so that it does not hide the others; why goes to `damaged`.
    """
    found = []
    for key in local_keys(repository, engine):
        try:
            found.append(read_slice(repository, key, signing_keys))
        except DbkeepError as error:
            (damaged if damaged is not None else []).append(str(error))
    return found


def remove_unfinished(repository: Path, engine: str) -> None:
    """Remove what a killed cut left: files of which there is no record. The caller is the only one that cuts."""
    folder = repository / log_folder(engine)
    names = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    for name in names:
        if f"{name.partition('Z.')[0]}Z{SUFFIX}" not in names:
            (folder / name).unlink()


def newest_slice(repository: Path, engine: str, signing_keys: Sequence[str]) -> Slice | None:
    """Return the newest slice whose record is whole, reading no other."""
    for key in reversed(local_keys(repository, engine)):
        try:
            return read_slice(repository, key, signing_keys)
        except DbkeepError:
            continue
    return None


def chain_after(
    slices: Sequence[Slice], after: str | RecoveryPoint, until: str | RecoveryPoint | None, order: Order = str
) -> list[Slice]:
    """Return the slices that carry on from `after`, a set's point, to `until`, or to the newest when that is None.

    Each of the two is a position of the engine, which `order` makes comparable, or a moment. The first slice holds
    `after` or begins there. Raises DbkeepError naming the gap when they are not continuous or end before `until`.
    """
    begun = [index for index, found in enumerate(slices) if not _later(found.first, found.start, after, order)]
    if not begun:
        oldest = f"the oldest slice begins at {_end(slices[0].first, slices[0].started_at)}" if slices else "no slices"
        raise DbkeepError(f"the log has a gap after {_text(after)}, the point of the set: {oldest}; take a later set")
    chain: list[Slice] = []
    for found in slices[begun[-1] :]:
        if chain and (found.begins_chain or found.first != chain[-1].last):
            raise DbkeepError(gap(chain[-1], found))
        chain.append(found)
        if until is not None and _reaches(found, until, order):
            return chain
    if until is not None:
        end = _end(chain[-1].last, chain[-1].ended_at)
        raise DbkeepError(
            f"{chain[-1].engine}: the slices end at {end}, before {_text(until)}; choose an earlier moment"
        )
    return chain


def _reaches(found: Slice, until: str | RecoveryPoint, order: Order) -> bool:
    if isinstance(until, RecoveryPoint):
        return found.name >= until.place
    return bool(order(found.last) >= order(until))


def _later(position: str, where: str, than: str | RecoveryPoint, order: Order) -> bool:
    if isinstance(than, RecoveryPoint):
        return where > than.place
    return bool(order(position) > order(than))


def gap(before: Slice, after: Slice) -> str:
    """Return what to say of two slices that follow each other and are not continuous."""
    what = "the log was lost before it was sealed" if after.begins_chain else "a slice is missing"
    return (
        f"{before.engine}: gap between slice {before.name}, which ends at {before.last}, and slice {after.name}, which "
        f"begins at {after.first}: {what}; choose a moment up to {before.ended_at.isoformat()}, or a set after the gap"
    )


def _text(where: str | RecoveryPoint) -> str:
    return where.at.isoformat() if isinstance(where, RecoveryPoint) else where


def _end(position: str, moment: datetime) -> str:
    return f"{position} ({moment.isoformat()})"


def newest_place(repository: Path, engine: str) -> str | None:
    """Return where the newest slice ends, reading none."""
    keys = local_keys(repository, engine)
    return PurePosixPath(keys[-1]).stem if keys else None


def prune_slices(repository: Path, engine: str, limit: str) -> list[str]:
    """Remove the slices that end before `limit`, the place of the oldest set that is kept, and return their names.

    The record goes first: what is left without one is no slice. Files of pgBackRest are its own to let go.
    """
    folder = repository / log_folder(engine)
    gone = [path.stem for key in local_keys(repository, engine) if (path := PurePosixPath(key)).stem < limit]
    for name in gone:
        for file in sorted(folder.glob(f"{name}.*"), key=lambda file: file.suffix != SUFFIX):
            file.unlink()
    return gone
