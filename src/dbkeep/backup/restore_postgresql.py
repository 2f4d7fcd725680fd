"""Puts a part of PostgreSQL back in place of the live cluster."""

from __future__ import annotations

import time
from typing import Any

from dbkeep.backup.job import Progress
from dbkeep.backup.manifest import Part
from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.backup.postgresql import restore_files, tool, wait_for_segment
from dbkeep.backup.safety_copy import set_aside
from dbkeep.backup.service import Service
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql import counts
from dbkeep.postgresql.connect import Connection, connect
from dbkeep.settings import PostgreSQLSettings

RECOVERY_SECONDS = 24 * 3600


def live_counts(host: BackupHost) -> dict[str, int]:
    """Return the rows of every table now. Raises UsageError when the server does not answer."""
    return counts(host.with_postgresql()[1])


def replace(host: BackupHost, part: Part, identity: str, service: Service, progress: Progress) -> dict[str, Any]:
    """Restore the part as the live cluster, wait until it is promoted and archives, and return what is there now.

    The identity is not used: pgBackRest's repository has its own key in its configuration.
    Raises DbkeepError when a step fails; the cluster is then as it was.
    """
    del identity
    settings, engine = host.with_postgresql()
    with set_aside(settings.data_directory, service, settings.os_user) as safety:
        progress(f"postgresql: restoring {part.details['label']} to {part.recovery_point.name}")
        restore_files(settings, part, settings.data_directory, archive=True)
        service.start()
        _wait_for_promotion(engine)
    # A set that was fetched from a store is restored out of a repository of its own; archived is into the live one.
    live = tool(settings.model_copy(update={"repository": None}))
    _adopt(live, part)
    with connect(engine) as connection:
        _prove_archiving(live, connection)
    return {"safety_copy": str(safety) if safety else None, "counts": counts(engine)}


def _wait_for_promotion(engine: PostgreSQLSettings) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            with connect(engine) as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
                if row == (False,):
                    return
        except UsageError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise DbkeepError("postgresql: recovery did not reach its target; read the server log")
        time.sleep(0.2)


def _adopt(pgbackrest: PgBackRest, part: Part) -> None:
    """Tell the stanza of a new host, which was made for the new host's own cluster, that it has another one now."""
    if str(pgbackrest.info()["db"][-1]["system-id"]) != part.details["system_identifier"]:
        pgbackrest.run("stanza-upgrade")


def _prove_archiving(pgbackrest: PgBackRest, connection: Connection) -> None:
    """The restored cluster is on a new timeline: its WAL must reach the repository, or the next set is worthless."""
    row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    assert row is not None  # noqa: S101 - the function returns one row or raises
    wait_for_segment(pgbackrest, row[0], connection)
