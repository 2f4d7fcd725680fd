"""Puts a part of PostgreSQL back in place of the live cluster."""

from __future__ import annotations

import time
from typing import Any

from dbkeep.backup.job import Progress
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.postgresql_engine import engine_of
from dbkeep.backup.restore import timelines
from dbkeep.backup.restore.safety_copy import set_aside
from dbkeep.backup.restore.service import Service
from dbkeep.backup.restore.target_postgresql import goal_of
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql import counts
from dbkeep.postgresql.connect import connect
from dbkeep.settings import PostgreSQLSettings

RECOVERY_SECONDS = 24 * 3600


def live_counts(host: BackupHost) -> dict[str, int]:
    """Return the rows of every table now. Raises UsageError when the server does not answer."""
    return counts(host.with_postgresql()[1])


def replace(
    host: BackupHost,
    part: Part,
    identity: str,
    service: Service,
    progress: Progress,
    *,
    target: RecoveryPoint | None = None,
) -> dict[str, Any]:
    """Restore the part, carried on to `target`, as the live cluster; return what is there once it archives again.

    Raises DbkeepError when WAL to the target is missing, before anything is stopped, or when a step fails; the cluster
    is then as it was.
    """
    settings, server = host.with_postgresql()
    goal = goal_of(host, part, target)
    with set_aside(settings.data_directory, service, settings.os_user) as safety:
        progress(f"postgresql: restoring set {part.set_id} to the {goal.kind} {goal.value}")
        engine_of(part).restore(host, part, identity, settings.data_directory, goal, archive=True)
        taken = timelines.reserve(host, settings.data_directory, goal.timeline)
        service.start()
        _wait_for_promotion(server)
        timelines.forget(taken)
    with connect(server) as connection:
        engine_of(part).resume_archiving(host, part, connection)
    return {"safety_copy": str(safety) if safety else None, "counts": counts(server)}


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
