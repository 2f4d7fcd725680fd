"""PostgreSQL's backup by pgBackRest: full, differential and incremental, the WAL archived by `archive-push`.

Its repository has a passphrase in its configuration on the host, so that no identity is needed to restore.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbkeep.backup.job import Job
from dbkeep.backup.log.wal_archive import (
    WAIT_SECONDS,
    WalArchive,
    archive_segment,
    segment_bytes,
    wait_until_archived,
    write_transaction,
)
from dbkeep.backup.manifest import Part, StoredFile
from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.backup.pgbackrest_files import ROOT, keep_own, needed, own
from dbkeep.backup.postgresql_engine import Goal, Taken
from dbkeep.backup.settings import BackupHost, PostgreSQLBackup
from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import Connection


def tool(settings: PostgreSQLBackup) -> PgBackRest:
    """Return pgBackRest for the stanza of these settings."""
    return PgBackRest(settings.stanza, settings.configuration, settings.os_user, settings.repository)


def backup_type(backups: Sequence[dict[str, Any]], now: datetime, settings: PostgreSQLBackup) -> str:
    """Return `full`, `diff` or `incr` for the next backup after those of `pgbackrest info`.

    A backup is due when that many midnights (UTC) have passed, so that a timer's random delay does not move it by a
    night. One with damaged pages does not count.
    """
    good = [backup for backup in backups if not backup.get("error")]
    if _days_since(good, ("full",), now) >= settings.full_after_days:
        return "full"
    return "diff" if _days_since(good, ("full", "diff"), now) >= settings.differential_after_days else "incr"


def _days_since(backups: Sequence[dict[str, Any]], kinds: tuple[str, ...], now: datetime) -> float:
    stops = [backup["timestamp"]["stop"] for backup in backups if backup["type"] in kinds]
    return (now.date() - datetime.fromtimestamp(max(stops), UTC).date()).days if stops else math.inf


def take(job: Job) -> Taken:
    """Take the backup that is due. Raises DbkeepError when pgBackRest fails or finds damaged pages."""
    settings = job.host.with_postgresql()[0]
    pgbackrest = tool(settings)
    kind = backup_type(pgbackrest.backups(), datetime.now(UTC), settings)
    job.progress(f"postgresql: {kind} backup by pgBackRest")
    options = ["--start-fast", f"--archive-timeout={WAIT_SECONDS}", "--no-expire-auto"]
    if pgbackrest.offers("backup", "repo-block"):
        options.append("--repo1-block")
    pgbackrest.run("backup", f"--type={kind}", *options)
    info = pgbackrest.info()
    backup = info["backup"][-1]
    if backup.get("error"):
        raise DbkeepError(
            f"postgresql: backup {backup['label']} holds pages with wrong checksums: the cluster is damaged; "
            "find the tables with pg_amcheck and restore them from an earlier set"
        )
    return Taken(
        first_segment=backup["archive"]["start"],
        stored_bytes=int(backup["info"]["repository"]["delta"]),
        tools={"pgbackrest": backup["backrest"]["version"]},
        details={
            "stanza": settings.stanza,
            "label": backup["label"],
            "type": backup["type"],
            "database_bytes": int(backup["info"]["size"]),
        },
        facts={"backup": backup, "database": info["db"][-1]},
    )


def archive(host: BackupHost, connection: Connection, taken: Taken | None = None) -> WalArchive:
    """Return the archive of the newest cluster of the stanza, which a backup that was just taken knows."""
    settings = host.with_postgresql()[0]
    database = taken.facts["database"] if taken else tool(settings).info()["db"][-1]
    root = host.settings.repository / ROOT / "archive" / settings.stanza
    return WalArchive(root / f"{database['version']}-{database['id']}", segment_bytes(connection))


def files(job: Job, taken: Taken, archive: WalArchive) -> tuple[StoredFile, ...]:
    """Keep what pgBackRest writes again and again as it is now."""
    del taken
    return keep_own(job.settings.repository, job.host.with_postgresql()[0].stanza, archive.folder.name, job.folder)


def repository_files(job: Job, taken: Taken, archive: WalArchive, until: str) -> list[Path]:
    """Return the files of the backup, of all it builds on, and the WAL from its start."""
    stanza = job.host.with_postgresql()[0].stanza
    return needed(job.settings.repository, stanza, archive.folder.name, taken.facts["backup"], until)


def restore(host: BackupHost, part: Part, identity: str, folder: Path, goal: Goal, *, archive: bool) -> None:
    """Restore by pgBackRest, which the recovering server then calls for each WAL segment.

    Without `archive` the restored server never archives, so that a copy cannot write into the live repository.
    """
    del identity
    settings = host.with_postgresql()[0]
    pgbackrest, label = tool(settings), part.details["label"]
    if label not in {backup["label"] for backup in pgbackrest.backups()}:
        raise DbkeepError(f"postgresql: backup {label} of set {part.set_id} is gone from the repository; take another")
    if settings.repository:
        own(settings.repository, settings.os_user)
    pgbackrest.run(
        "restore",
        f"--set={label}",
        f"--pg1-path={folder}",
        f"--type={goal.kind}",
        f"--target={goal.value}",
        f"--target-timeline={goal.timeline}",
        "--target-action=promote",
        f"--archive-mode={'preserve' if archive else 'off'}",
    )


def verify(host: BackupHost, part: Part) -> list[str]:
    """Return what pgBackRest finds wrong: of the part alone where it can, else of all its repository."""
    pgbackrest = tool(host.with_postgresql()[0])
    backups = {backup["label"]: backup for backup in pgbackrest.backups()}
    label, segment = part.details["label"], part.details["segment"]
    if label not in backups:
        return [f"backup {label} is no longer in the repository"]
    if backups[label].get("error"):
        return [f"backup {label} holds pages with wrong checksums"]
    missing = [] if pgbackrest.has_segment(segment) else [f"WAL segment {segment} of the restore point is missing"]
    return missing + pgbackrest.verify(label)


def resume_archiving(host: BackupHost, part: Part, connection: Connection) -> None:
    """Adopt the restored cluster, and return when a segment of its new timeline is in the live repository.

    A set that was fetched from a store is restored out of a repository of its own; archived is into the live one. The
    stanza of a new host, which was made for the new host's own cluster, is told that it has another one now.
    """
    live = tool(host.with_postgresql()[0].model_copy(update={"repository": None}))
    if str(live.info()["db"][-1]["system-id"]) != part.details["system_identifier"]:
        live.run("stanza-upgrade")
    write_transaction(connection)
    wait_until_archived(connection, archive_segment(connection))


def expire(host: BackupHost) -> None:
    """Let backups and WAL go that are older than retention: repo1-retention-full, the same days as the sets'."""
    tool(host.with_postgresql()[0]).run("expire")
