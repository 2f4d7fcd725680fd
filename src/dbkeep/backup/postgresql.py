"""PostgreSQL: a physical backup, then a named restore point whose WAL is in the repository too.

The part is recoverable to exactly that name, so all engines of a set can be fenced at one moment after the long copy.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dbkeep.backup.job import Fence, Job, Ready, at_once
from dbkeep.backup.log.slices import read_slices
from dbkeep.backup.log.wal_archive import archive_segment, timeline_of, wait_until_archived, write_transaction
from dbkeep.backup.manifest import Part, StoredFile, read_sets
from dbkeep.backup.pgbackrest_files import digest, digested_beside
from dbkeep.backup.postgresql_engine import engine_here, engine_of
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.table_digests import TableDigests
from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import Connection, connect

ENGINE = "postgresql"

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


def server_version(connection: Connection) -> str:
    """Return the server's version as 15.14, without the packager's words behind it."""
    row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]).partition(" ")[0] if row else ""


def system_identifier(connection: Connection) -> str:
    """Return what tells the cluster from every other one."""
    row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    return str(row[0]) if row else ""


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


def prepare(job: Job) -> None:
    """Take the physical backup. Raises DbkeepError when the engine fails or finds damaged pages."""
    job.facts["taken"] = engine_here(job.host).take(job)
    job.facts["digests"] = TableDigests(job.host.with_postgresql()[1])


def fence(job: Job) -> Fence:
    """Set the restore point named after the set."""
    name = f"dbkeep_{job.set_id}"
    with job.facts["digests"].kept() as views, connect(job.host.with_postgresql()[1]) as connection:
        views.look()
        at, job.facts["lsn"], job.facts["segment"] = _restore_point(connection, name)
    return Fence(at=at, name=name)


def mark(host: BackupHost, name: str, ready: Ready = at_once) -> Fence:
    """Connect, call `ready`, set the restore point `name` and return it. Raises DbkeepError when the server refuses it.

    pg_create_restore_point is the superuser's, as which the agent is at the local socket; granting it to a role that
    logs on from elsewhere would give more away than it takes.
    """
    with connect(host.with_postgresql()[1]) as connection:
        ready()
        at = _restore_point(connection, name)[0]
        # A restore point alone is no transaction: the log would seem to have nothing new in it.
        write_transaction(connection)
    return Fence(at=at, name=name)


def _restore_point(connection: Connection, name: str) -> tuple[datetime, str, str]:
    row = connection.execute(
        "SELECT lsn::text, pg_walfile_name(lsn) FROM pg_create_restore_point(%s) AS lsn", [name]
    ).fetchone()
    at = datetime.now(UTC)
    assert row is not None  # noqa: S101 - the function returns one row or raises
    return at, str(row[0]), str(row[1])


def collect(job: Job, point: Fence) -> Part:
    """Wait until the restore point's WAL is in the repository and return the part.

    Raises DbkeepError when archiving does not deliver it in time.
    """
    engine, taken, segment = engine_here(job.host), job.facts["taken"], job.facts["segment"]
    repository = job.settings.repository
    with job.facts["digests"] as views, connect(job.host.with_postgresql()[1]) as connection:
        views.look()
        archive = engine.archive(job.host, connection, taken)
        identifier = system_identifier(connection)
        # The last of the WAL is not there yet.
        complete = engine.repository_files(job, taken, archive, segment)
        with digested_beside(repository, complete, _known(job)) as hashing:
            observed = _observe(views, connection, job.host.with_postgresql()[0].digest_mebibytes)
            known = {stored.name: stored for stored in hashing.result()}
    if missing := archive.missing(taken.first_segment, segment):
        raise DbkeepError(
            f"postgresql: WAL segment {missing[0]} of this backup is not in the repository; take another set"
        )
    return job.part(
        point,
        stored_bytes=taken.stored_bytes,
        files=engine.files(job, taken, archive),
        repository_files=digest(repository, engine.repository_files(job, taken, archive, segment), known),
        tools=taken.tools,
        details={
            **taken.details,
            "engine": job.host.with_postgresql()[0].engine,
            "lsn": job.facts["lsn"],
            "first_segment": taken.first_segment,
            "segment": segment,
            "timeline": timeline_of(segment),
            "system_identifier": identifier,
        },
        **observed,
    )


def _observe(views: TableDigests, connection: Connection, digest_mebibytes: int) -> dict[str, Any]:
    """Return what the manifest says of the database, once the log up to here is archived."""
    # As in `mark`, but not between the views, which would then differ by it.
    write_transaction(connection)
    last = archive_segment(connection)
    found = {
        "server_version": server_version(connection),
        "shape": shape(connection),
        "counts": views.counts(),
        "digests": views.read(digest_mebibytes),
    }
    wait_until_archived(connection, last)
    return found


def _known(job: Job) -> dict[str, StoredFile]:
    """Return the entries that earlier parts and slices have of files in the repository."""
    earlier = [parts[ENGINE] for parts in read_sets(job.host.sets, job.settings.signing_keys) if ENGINE in parts]
    log = read_slices(job.settings.repository, ENGINE, job.settings.signing_keys)
    known = {stored.name: stored for part in earlier for stored in part.repository_files}
    return known | {stored.name: stored for found in log for stored in found.repository_files}


def verify(host: BackupHost, part: Part) -> list[str]:
    """Return what is wrong with the part beside what its digests show; an empty list when nothing is."""
    return engine_of(part).verify(host, part)
