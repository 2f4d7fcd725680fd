"""PostgreSQL by pgBackRest: a physical backup, then a named restore point whose WAL is in the repository too.

The part is recoverable to exactly that name, so all engines of a set can be fenced at one moment after the long copy.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dbkeep.backup.job import Fence, Job, Ready, at_once
from dbkeep.backup.manifest import Count, Part, StoredFile, read_sets
from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.backup.pgbackrest_files import archive_of, digest, keep_own, needed
from dbkeep.backup.settings import BackupHost, PostgreSQLBackup
from dbkeep.backup.table_digests import TableDigests
from dbkeep.errors import DbkeepError
from dbkeep.postgresql import counts
from dbkeep.postgresql.connect import Connection, connect

ARCHIVE_SECONDS = 60

_TABLES = """
SELECT n.nspname, c.relname, c.relrowsecurity, c.relforcerowsecurity
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT n.nspname || '.' || c.relname, array_agg(
  a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
  ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
GROUP BY 1 ORDER BY 1
"""
_POLICIES = """
SELECT schemaname || '.' || tablename || ' ' || policyname || ': ' || permissive || ' ' || cmd || ' to '
  || array_to_string(roles, ',') || ' using ' || coalesce(qual, '-') || ' check ' || coalesce(with_check, '-')
FROM pg_policies ORDER BY 1
"""


def tool(settings: PostgreSQLBackup) -> PgBackRest:
    """Return pgBackRest for the stanza of these settings."""
    return PgBackRest(settings.stanza, settings.configuration, settings.os_user, settings.repository)


def server_version(connection: Connection) -> str:
    """Return the server's version as 15.14, without the packager's words behind it."""
    row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]).partition(" ")[0] if row else ""


def shape(connection: Connection) -> dict[str, Any]:
    """Return tables with their columns, row security flags and policies as plain JSON, to compare two servers."""
    return {
        "tables": {
            f"{schema}.{table}": {"row_security": enabled, "forced": forced}
            for schema, table, enabled, forced in connection.execute(_TABLES)
        },
        "columns": dict(connection.execute(_COLUMNS).fetchall()),
        "policies": [row[0] for row in connection.execute(_POLICIES)],
    }


def backup_type(backups: list[dict[str, Any]], now: datetime, full_after_days: int) -> str:
    """Return `full` when the newest full backup of `pgbackrest info` is that old or missing, else `incr`."""
    fulls = [b["timestamp"]["stop"] for b in backups if b["type"] == "full" and not b.get("error")]
    if not fulls:
        return "full"
    newest = datetime.fromtimestamp(max(fulls), UTC)
    return "full" if now - newest >= timedelta(days=full_after_days) else "incr"


def prepare(job: Job) -> None:
    """Take the physical backup. Raises DbkeepError when pgBackRest fails or finds damaged pages."""
    settings, pgbackrest = job.host.with_postgresql()[0], tool(job.host.with_postgresql()[0])
    kind = backup_type(pgbackrest.backups(), datetime.now(UTC), settings.full_after_days)
    job.progress(f"postgresql: {kind} backup by pgBackRest")
    pgbackrest.run(
        "backup", f"--type={kind}", "--start-fast", f"--archive-timeout={ARCHIVE_SECONDS}", "--no-expire-auto"
    )
    backup = pgbackrest.backups()[-1]
    if backup.get("error"):
        raise DbkeepError(
            f"postgresql: backup {backup['label']} holds pages with wrong checksums: the cluster is damaged; "
            "find the tables with pg_amcheck and restore them from an earlier set"
        )
    job.facts["backup"] = backup
    job.facts["pgbackrest"] = pgbackrest.version()
    job.facts["before"] = counts(job.host.with_postgresql()[1])
    job.facts["digests"] = TableDigests(job.host.with_postgresql()[1])


def fence(job: Job) -> Fence:
    """Set the restore point named after the set."""
    job.facts["digests"].look()
    with connect(job.host.with_postgresql()[1]) as connection:
        row = connection.execute(
            "SELECT lsn::text, pg_walfile_name(lsn) FROM pg_create_restore_point(%s) AS lsn", [point_name(job.set_id)]
        ).fetchone()
    at = datetime.now(UTC)
    assert row is not None  # noqa: S101 - the function returns one row or raises
    job.facts["lsn"], job.facts["segment"] = row
    return Fence(at=at, name=point_name(job.set_id))


def mark(host: BackupHost, name: str, ready: Ready = at_once) -> Fence:
    """Connect, call `ready` and set the restore point `name`."""
    with connect(host.with_postgresql()[1]) as connection:
        ready()
        connection.execute("SELECT pg_create_restore_point(%s)", [name])
        return Fence(at=datetime.now(UTC), name=name)


def point_name(set_id: str) -> str:
    return f"dbkeep_{set_id}"


def collect(job: Job, point: Fence) -> Part:
    """Wait until the restore point's WAL is in the repository and return the part.

    Raises DbkeepError when archiving does not deliver it in time.
    """
    job.facts["digests"].look()
    after = counts(job.host.with_postgresql()[1])
    with connect(job.host.with_postgresql()[1]) as connection:
        connection.execute("SELECT pg_switch_wal()")
        version = server_version(connection)
        identifier = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
        found = shape(connection)
        digests = job.facts["digests"].read(job.host.with_postgresql()[0].digest_mebibytes)
        wait_for_segment(tool(job.host.with_postgresql()[0]), job.facts["segment"], connection)
    backup = job.facts["backup"]
    archive = archive_of(tool(job.host.with_postgresql()[0]).info(), backup)
    return job.part(
        point,
        server_version=version,
        stored_bytes=int(backup["info"]["repository"]["delta"]),
        files=keep_own(job.settings.repository, job.host.with_postgresql()[0].stanza, archive, job.folder),
        repository_files=_repository_files(job, archive),
        counts=Count.between(job.facts["before"], after),
        digests=digests,
        shape=found,
        tools={"pgbackrest": job.facts["pgbackrest"]},
        details={
            "stanza": job.host.with_postgresql()[0].stanza,
            "label": backup["label"],
            "type": backup["type"],
            "lsn": job.facts["lsn"],
            "segment": job.facts["segment"],
            "timeline": int(job.facts["segment"][:8], 16),
            "system_identifier": identifier[0] if identifier else "",
            "database_bytes": int(backup["info"]["size"]),
        },
    )


def _repository_files(job: Job, archive: str) -> tuple[StoredFile, ...]:
    repository, stanza = job.settings.repository, job.host.with_postgresql()[0].stanza
    paths = needed(repository, stanza, archive, job.facts["backup"], job.facts["segment"])
    earlier = [
        parts["postgresql"] for parts in read_sets(job.host.sets, job.settings.signing_keys) if "postgresql" in parts
    ]
    known = {stored.name: stored for part in earlier for stored in part.repository_files}
    return digest(repository, paths, known)


def wait_for_segment(pgbackrest: PgBackRest, segment: str, connection: Connection) -> None:
    """Return when a WAL segment is in the repository; raises DbkeepError when archiving does not deliver it in time."""
    deadline = time.monotonic() + ARCHIVE_SECONDS
    while pgbackrest.newest_archived().partition("-")[0] < segment:
        if time.monotonic() > deadline:
            row = connection.execute("SELECT last_failed_wal FROM pg_stat_archiver").fetchone()
            failed = f"; archiving of {row[0]} failed last" if row and row[0] else ""
            raise DbkeepError(
                f"postgresql: WAL segment {segment} did not reach the repository in {ARCHIVE_SECONDS} s{failed}; "
                "read the server log and /var/log/pgbackrest"
            )
        time.sleep(0.2)


def restore_files(settings: PostgreSQLBackup, part: Part, target: Path, *, archive: bool) -> None:
    """Restore the part's files into the empty folder `target`, set to recover to its restore point and promote there.

    Without `archive` the restored server never archives, so that a copy cannot write into the live repository.
    Raises DbkeepError when the backup is gone or damaged.
    """
    pgbackrest = tool(settings)
    label = part.details["label"]
    if label not in {backup["label"] for backup in pgbackrest.backups()}:
        raise DbkeepError(f"postgresql: backup {label} of set {part.set_id} is gone from the repository; take another")
    pgbackrest.run(
        "restore",
        f"--set={label}",
        f"--pg1-path={target}",
        "--type=name",
        f"--target={part.recovery_point.name}",
        f"--target-timeline={part.details['timeline']}",
        "--target-action=promote",
        f"--archive-mode={'preserve' if archive else 'off'}",
    )


def verify(settings: PostgreSQLBackup, part: Part) -> list[str]:
    """Return what is wrong with the part's stored bytes; an empty list when nothing is."""
    pgbackrest = tool(settings)
    backups = {backup["label"]: backup for backup in pgbackrest.backups()}
    label = part.details["label"]
    if label not in backups:
        return [f"backup {label} is no longer in the repository"]
    if backups[label].get("error"):
        return [f"backup {label} holds pages with wrong checksums"]
    segment = part.details["segment"]
    missing = [] if pgbackrest.has_segment(segment) else [f"WAL segment {segment} of the restore point is missing"]
    return missing + pgbackrest.verify()
