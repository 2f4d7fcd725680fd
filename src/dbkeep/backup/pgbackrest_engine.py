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
from dbkeep.backup.manifest import Part, StoredFile, read_sets
from dbkeep.backup.pgbackrest import NotLaterError, PgBackRest
from dbkeep.backup.pgbackrest_chains import begin_chain, chains, empty_chains, with_backups
from dbkeep.backup.pgbackrest_files import ROOT, keep_own, needed, own
from dbkeep.backup.postgresql_engine import Goal, Taken
from dbkeep.backup.retention import Keep
from dbkeep.backup.settings import BackupHost, PostgreSQLBackup
from dbkeep.errors import DbkeepError
from dbkeep.evidence import TOLERANCE
from dbkeep.evidence import now as present
from dbkeep.postgresql.connect import Connection

# pgBackRest lets no WAL go before there are so many full backups.
ALL_WAL = ("--repo1-retention-archive-type=full", "--repo1-retention-archive=9999999")


def tool(settings: PostgreSQLBackup, chain: str | None = None) -> PgBackRest:
    """Return pgBackRest for a chain of backups, without one for the stanza of these settings, which the log goes to."""
    return PgBackRest(chain or settings.stanza, settings.configuration, settings.os_user, settings.repository)


def tool_of(host: BackupHost, part: Part) -> PgBackRest:
    """Return pgBackRest for the chain of backups that a part is in."""
    return tool(host.with_postgresql()[0], part.details["stanza"])


def backup_type(backups: Sequence[dict[str, Any]], now: datetime, settings: PostgreSQLBackup) -> str:
    """Return `full`, `diff` or `incr` for the next backup after those of `pgbackrest info`.

    A backup is due when that many midnights (UTC) have passed, so that a timer's random delay does not move it by a
    night. One with damaged pages does not count, nor one of a time to come.
    """
    latest = (now + TOLERANCE).timestamp()
    good = [backup for backup in backups if not backup.get("error") and backup["timestamp"]["stop"] <= latest]
    if _days_since(good, ("full",), now) >= settings.full_after_days:
        return "full"
    return "diff" if _days_since(good, ("full", "diff"), now) >= settings.differential_after_days else "incr"


def _days_since(backups: Sequence[dict[str, Any]], kinds: tuple[str, ...], now: datetime) -> float:
    stops = [backup["timestamp"]["stop"] for backup in backups if backup["type"] in kinds]
    return (now.date() - datetime.fromtimestamp(max(stops), UTC).date()).days if stops else math.inf


def take(job: Job) -> Taken:
    """Take the backup that is due, a full one into a new chain where the clock was ahead when the newest was taken.

    Raises DbkeepError when pgBackRest fails or finds damaged pages.
    """
    settings = job.host.with_postgresql()[0]
    chain = chains(job.settings.repository, settings.stanza)[-1]
    kind = backup_type(tool(settings, chain).backups(), datetime.now(UTC), settings)
    try:
        return _take(job, chain, kind)
    except NotLaterError as error:
        chain = begin_chain(job.settings.repository, settings.stanza, settings.os_user)
        job.progress(
            f"postgresql: WARNING: the clock was set back: {error}; the backups go on in the new chain {chain} with a "
            "full one, and the sets that are there stay"
        )
        return _take(job, chain, "full")


def _take(job: Job, chain: str, kind: str) -> Taken:
    pgbackrest = tool(job.host.with_postgresql()[0], chain)
    job.progress(f"postgresql: {kind} backup by pgBackRest")
    options = ["--start-fast", f"--archive-timeout={WAIT_SECONDS}", "--no-expire-auto", *_cluster(job.host)]
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
            "stanza": chain,
            "label": backup["label"],
            "type": backup["type"],
            "database_bytes": int(backup["info"]["size"]),
        },
        facts={"backup": backup, "database": info["db"][-1]},
    )


def _cluster(host: BackupHost) -> list[str]:
    """Return how the cluster is reached: the configuration says it of the first chain only."""
    backup, server = host.with_postgresql()
    return [
        f"--pg1-path={backup.data_directory}",
        f"--pg1-port={server.port}",
        f"--pg1-socket-path={server.socket_directory}",
    ]


def archive(host: BackupHost, connection: Connection, taken: Taken | None = None) -> WalArchive:
    """Return the archive of the newest cluster of the stanza, which a backup that was just taken knows."""
    settings = host.with_postgresql()[0]
    database = taken.facts["database"] if taken else tool(settings).info()["db"][-1]
    root = host.settings.repository / ROOT / "archive" / settings.stanza
    return WalArchive(root / f"{database['version']}-{database['id']}", segment_bytes(connection))


def files(job: Job, taken: Taken, archive: WalArchive) -> tuple[StoredFile, ...]:
    """Keep what pgBackRest writes again and again as it is now."""
    return keep_own(job.settings.repository, taken.details["stanza"], archive.folder, job.folder)


def repository_files(job: Job, taken: Taken, archive: WalArchive, until: str) -> list[Path]:
    """Return the files of the backup, of all it builds on, and the WAL from its start."""
    return needed(job.settings.repository, taken.details["stanza"], archive.folder, taken.facts["backup"], until)


def restore(host: BackupHost, part: Part, identity: str, folder: Path, goal: Goal, *, archive: bool) -> None:
    """Restore by pgBackRest, which the recovering server then calls for each WAL segment.

    Without `archive` the restored server never archives, so that a copy cannot write into the live repository.
    """
    del identity
    settings = host.with_postgresql()[0]
    pgbackrest, label = tool_of(host, part), part.details["label"]
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
    pgbackrest = tool_of(host, part)
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
    settings = host.with_postgresql()[0].model_copy(update={"repository": None})
    for chain in {settings.stanza: None, chains(host.live_repository, settings.stanza)[-1]: None}:
        live = tool(settings, chain)
        if str(live.info()["db"][-1]["system-id"]) != part.details["system_identifier"]:
            live.run("stanza-upgrade", *_cluster(host))
    write_transaction(connection)
    wait_until_archived(connection, archive_segment(connection))


def expire(host: BackupHost) -> None:
    """Let backups go that no set needs and that are older than every set; the log from before the oldest goes with it.

    Nothing is let go while a damaged manifest hides what is needed. A clock that is ahead makes no backup older: the
    days that pgBackRest is told reach back to the oldest set.
    """
    repository, settings = host.settings.repository, host.with_postgresql()[0]
    damaged: list[str] = []
    sets = read_sets(host.sets, host.settings.signing_keys, damaged)
    parts = [found["postgresql"] for found in sets if "postgresql" in found]
    if damaged or not parts:
        return
    empty_chains(repository, settings.stanza, {part.details["stanza"] for part in parts if "stanza" in part.details})
    oldest = present() - min(part.recovery_point.at for part in parts)
    days = f"--repo1-retention-full={max(Keep.of(host.settings).span_days, oldest.days + 2)}"
    # The log is that of all chains: it goes by what the oldest of them has.
    for number, chain in enumerate(with_backups(repository, settings.stanza)):
        tool(settings, chain).run("expire", days, *(ALL_WAL if number else ()))
