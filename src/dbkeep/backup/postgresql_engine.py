"""What an engine of PostgreSQL's physical backup offers; the sets, slices and restores around it are the same for all.

`pgbackrest` takes incremental backups and reads them back by itself. `basebackup` is for sites where the host must not
be able to read its own backups: everything is sealed to public keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from dbkeep.backup.job import Job
from dbkeep.backup.log.slices import Slice
from dbkeep.backup.log.wal_archive import WalArchive
from dbkeep.backup.manifest import Part, StoredFile
from dbkeep.backup.settings import BackupHost
from dbkeep.postgresql.connect import Connection


@dataclass(frozen=True, slots=True)
class Taken:
    """A physical backup that is complete but for the WAL after its first segment; `details` are for the manifest."""

    first_segment: str
    stored_bytes: int
    tools: dict[str, str]
    details: dict[str, Any]
    files: tuple[StoredFile, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Goal:
    """Where recovery stops on `timeline`: at the restore point `value`, or at the time `value`, as `kind` says.

    `slices` are those that carry the set on to there.
    """

    kind: Literal["name", "time"]
    value: str
    timeline: int
    slices: tuple[Slice, ...] = ()


class PostgreSQLEngine(Protocol):
    """What dbkeep.backup.pgbackrest_engine and basebackup_engine each offer. All raise DbkeepError when they fail."""

    def take(self, job: Job) -> Taken:
        """Copy the cluster."""

    def archive(self, host: BackupHost, connection: Connection, taken: Taken | None = None) -> WalArchive:
        """Return the archive of the cluster that `connection` reaches; a backup just taken may save the question."""

    def files(self, job: Job, taken: Taken, archive: WalArchive) -> tuple[StoredFile, ...]:
        """Return the files in the part's own folder."""

    def repository_files(self, job: Job, taken: Taken, archive: WalArchive, until: str) -> list[Path]:
        """Return the files in the repository that recovery to the segment `until` needs."""

    def restore(self, host: BackupHost, part: Part, identity: str, folder: Path, goal: Goal, *, archive: bool) -> None:
        """Fill the empty `folder` with the cluster, set to recover to `goal` and promote there.

        It archives as it did before, or never without `archive`.
        """

    def verify(self, host: BackupHost, part: Part) -> list[str]:
        """Return what is wrong with the part beside what its digests show."""

    def expire(self, host: BackupHost) -> None:
        """Let go what no set that is kept needs."""

    def resume_archiving(self, host: BackupHost, part: Part, connection: Connection) -> None:
        """Return when the WAL of the restored live cluster reaches the repository."""


def engine_named(name: str) -> PostgreSQLEngine:
    """Return the engine `name` of the settings."""
    return cast(PostgreSQLEngine, import_module(f"dbkeep.backup.{name}_engine"))


def engine_here(host: BackupHost) -> PostgreSQLEngine:
    """Return the engine that takes this host's backups."""
    return engine_named(host.with_postgresql()[0].engine)


def engine_of(part: Part) -> PostgreSQLEngine:
    """Return the engine that took a part."""
    return engine_named(part.details.get("engine", "pgbackrest"))
