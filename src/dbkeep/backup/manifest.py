"""The manifest: what one engine's part of a backup set holds. It is written last; without it there is no part.

Beside it SHA256SUMS has the digest of the manifest and of every file of the part, as sha256sum(1) reads it, and
SHA256SUMS.sig its signature: who cannot sign as this environment's hosts do cannot make a part, nor change one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from dbkeep.backup import signature
from dbkeep.backup.clock import in_order, place
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.files import write_atomically

FILE_NAME = "manifest.json"
SUMS_NAME = "SHA256SUMS"
SIGNATURE_NAME = SUMS_NAME + signature.SUFFIX
FORMAT = 3
NEWEST = "newest"
_SET_ID = "%Y%m%dT%H%M%SZ"


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredFile(Record):
    """One file of a part: stored size and SHA-256 in the store, and the size of what went in."""

    name: str
    size: int
    sha256: str
    plain_size: int

    @field_validator("name")
    @classmethod
    def _stays_below_its_folder(cls, name: str) -> str:
        # A manifest from a store says where files are written on this host.
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError(f"{name!r} is no file below the repository")
        return name


class Count(Record):
    """Rows, documents or keys at the recovery point: at least `low`, at most `high`; exact when equal."""

    low: int
    high: int

    @classmethod
    def between(cls, before: dict[str, int], after: dict[str, int]) -> dict[str, Count]:
        """Return the bounds from counts taken just before and just after the recovery point."""
        names = sorted(before.keys() | after.keys())
        pairs = {name: sorted((before.get(name, 0), after.get(name, 0))) for name in names}
        return {name: cls(low=low, high=high) for name, (low, high) in pairs.items()}

    @classmethod
    def exact(cls, counts: dict[str, int]) -> dict[str, Count]:
        return {name: cls(low=count, high=count) for name, count in sorted(counts.items())}

    def holds(self, observed: int) -> bool:
        return self.low <= observed <= self.high

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


class RecoveryPoint(Record):
    """The moment a part restores to: when, and the engine's own name of it (restore point, cluster time, save).

    `after` is the place in the engine's log at which the clock was set back, when it has not passed that since.
    """

    at: datetime
    name: str
    after: str = ""

    @property
    def place(self) -> str:
        """Where it is among all that the engine's log has, whatever the clock."""
        return place(self.at, self.after)

    @property
    def order(self) -> tuple[bool, str]:
        """What sorts sets, oldest first."""
        return in_order(self.at, self.after)

    @model_serializer(mode="wrap")
    def _as_signed(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A record of before there was such a field is the same bytes again.
        return {name: value for name, value in serialise(self).items() if name != "after" or value}


class Part(Record):
    """One engine's part of a backup set.

    `files` are in the part's own folder. `repository_files` are named by their path below the repository: files of
    pgBackRest that parts share. `digests` are of what `counts` counts, as far as one of this very moment can be had.
    `fingerprints` say which kind of definition differs between two parts, `fingerprint` that one does.
    """

    format: int = FORMAT
    set_id: str
    engine: str
    host: str
    server_version: str
    recovery_point: RecoveryPoint
    started_at: datetime
    seconds: float
    stored_bytes: int
    files: tuple[StoredFile, ...] = ()
    repository_files: tuple[StoredFile, ...] = ()
    counts: dict[str, Count]
    digests: dict[str, str] = {}
    recipients: tuple[str, ...]
    tools: dict[str, str]
    signed_by: str = ""
    fingerprint: str | None = None
    fingerprints: dict[str, str] = {}
    not_backed_up: tuple[str, ...] = ()
    details: dict[str, Any] = {}

    @property
    def folder(self) -> str:
        """The part's folder below the repository, and its key in a store."""
        return part_folder(self.set_id, self.engine)

    def stored_files(self) -> Iterator[StoredFile]:
        """Yield every file that the part needs, named by its path below the repository, which is its key in a store."""
        for stored in self.files:
            yield stored.model_copy(update={"name": f"{self.folder}/{stored.name}"})
        yield from self.repository_files


def part_folder(set_id: str, engine: str) -> str:
    """Return the folder of a part below the repository."""
    return f"sets/{set_id}/{engine}"


def set_id_of(moment: datetime, slot_minutes: int = 0) -> str:
    """Return the id of the backup set for `moment` (aware), floored to the slot so that hosts agree without talking."""
    moment = moment.astimezone(UTC)
    if slot_minutes:
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        slots = (moment - midnight) // timedelta(minutes=slot_minutes)
        moment = midnight + slots * timedelta(minutes=slot_minutes)
    return moment.strftime(_SET_ID)


def time_of(set_id: str) -> datetime:
    """Return the UTC time in a set id; raises UsageError for anything that is not one."""
    if not re.fullmatch(r"\d{8}T\d{6}Z", set_id):
        raise UsageError(f"{set_id!r} is not a set id; they look like 20261122T020000Z (`dbkeep backup list`)")
    try:
        return datetime.strptime(set_id, _SET_ID).replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f"{set_id!r} is not a set id: there is no such time") from None


@dataclass(frozen=True, slots=True)
class Written:
    """What says what a part is, as it was written: manifest, SHA256SUMS, and the signature of that if there is one."""

    manifest: bytes
    digests: bytes
    signature: bytes | None

    def write(self, folder: Path) -> None:
        """Write it to the folder of a complete part, the manifest last: from then on the part exists."""
        write_atomically(folder / SUMS_NAME, self.digests, mode=0o600)
        if self.signature is not None:
            write_atomically(folder / SIGNATURE_NAME, self.signature, mode=0o600)
        write_atomically(folder / FILE_NAME, self.manifest, mode=0o600)


def write_part(folder: Path, part: Part, key_file: Path) -> None:
    """Write digests, signature and manifest of a complete part. Raises UsageError for a key that cannot sign."""
    manifest = (part.model_dump_json(indent=2) + "\n").encode()
    digests = sums(part, manifest).encode()
    Written(manifest, digests, signature.sign(digests, key_file)).write(folder)


def sums(part: Part, manifest: bytes) -> str:
    """Return the content of SHA256SUMS: `sha256sum --check` in the part's folder compares all of it."""
    up = "../" * (part.folder.count("/") + 1)
    lines = [(FILE_NAME, hashlib.sha256(manifest).hexdigest())]
    lines += [(stored.name, stored.sha256) for stored in part.files]
    lines += [(up + stored.name, stored.sha256) for stored in part.repository_files]
    return "".join(f"{digest}  {name}\n" for name, digest in lines)


def parse_part(written: Written, folder: str, where: str, signing_keys: Sequence[str]) -> Part:
    """Return the part of `folder` that a host wrote and signed.

    Raises DbkeepError, naming `where`, when none of the keys signed it, when it is not as it was written, or is of
    another part. Nothing of it is read before its signature.
    """
    signature.check_signature(written.digests, written.signature, signing_keys, where)
    return parse_unsigned(written, folder, where)


def parse_unsigned(written: Written, folder: str, where: str) -> Part:
    """Return what `parse_part` does without asking who wrote it: for a part that is to be signed."""
    damaged = f"{where}: the manifest is damaged"
    if not written.digests.startswith(f"{hashlib.sha256(written.manifest).hexdigest()}  {FILE_NAME}\n".encode()):
        raise DbkeepError(f"{damaged}: it is not the one of {SUMS_NAME}; take another set")
    try:
        part = Part.model_validate(json.loads(written.manifest))
    except (ValueError, ValidationError) as error:
        raise DbkeepError(f"{damaged}: {str(error).splitlines()[0]}; take another set") from None
    if sums(part, written.manifest).encode() != written.digests or part.folder != folder:
        raise DbkeepError(f"{damaged}: it is not of this part; take another set")
    return part


def read_written(sets: Path, set_id: str, engine: str) -> Written:
    """Return what says what a part on this host is; raises UsageError when there is no such part, DbkeepError."""
    time_of(set_id)
    folder = sets / set_id / engine
    try:
        manifest, digests = (folder / FILE_NAME).read_bytes(), (folder / SUMS_NAME).read_bytes()
        signed = (folder / SIGNATURE_NAME).read_bytes() if (folder / SIGNATURE_NAME).exists() else None
    except FileNotFoundError as error:
        if Path(str(error.filename)).name == SUMS_NAME:
            raise DbkeepError(f"{folder}: {SUMS_NAME} is missing; take another set") from None
        raise UsageError(f"set {set_id} has no {engine} part on this host; see `dbkeep backup list`") from None
    except OSError as error:
        raise DbkeepError(f"{folder}: the manifest cannot be read: {error.strerror}; take another set") from None
    return Written(manifest, digests, signed)


def read_part(sets: Path, set_id: str, engine: str, signing_keys: Sequence[str]) -> Part:
    """Return the manifest of one part; raises UsageError when there is none, DbkeepError as `parse_part` does."""
    where = str(sets / set_id / engine / FILE_NAME)
    return parse_part(read_written(sets, set_id, engine), part_folder(set_id, engine), where, signing_keys)


def set_ids(sets: Path) -> list[str]:
    """Return the ids of the sets in a repository, oldest first."""
    return sorted(entry.name for entry in sets.glob("*T*Z") if entry.is_dir())


def part_engines(sets: Path, set_id: str) -> list[str]:
    """Return which engines have a complete part in a set."""
    return sorted(path.parent.name for path in (sets / set_id).glob(f"*/{FILE_NAME}"))


def read_sets(sets: Path, signing_keys: Sequence[str], damaged: list[str] | None = None) -> list[dict[str, Part]]:
    """Return each set as its complete parts by engine, by recovery point, oldest first.

    The id does not order them: a timer's set has the id of its slot, a set taken by hand that of its second.
    A part that is damaged or not signed is left out, so that it does not hide the others; why goes to `damaged`.
    """
    found = []
    for set_id in set_ids(sets):
        parts = {}
        for engine in part_engines(sets, set_id):
            try:
                parts[engine] = read_part(sets, set_id, engine, signing_keys)
            except DbkeepError as error:
                (damaged if damaged is not None else []).append(str(error))
        if parts:
            found.append(parts)
    return sorted(found, key=lambda parts: max(part.recovery_point.order for part in parts.values()))


def newest(sets: Path, engines: tuple[str, ...], signing_keys: Sequence[str]) -> str:
    """Return the newest set that has a part of every engine in `engines`; raises UsageError when there is none."""
    for parts in reversed(read_sets(sets, signing_keys)):
        if set(engines) <= parts.keys():
            return next(iter(parts.values())).set_id
    raise UsageError(f"no set with {', '.join(engines)} is on this host; take one with `dbkeep backup run`")
