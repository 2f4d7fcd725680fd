"""Drills a part of PostgreSQL: restored beside the live cluster, never archiving, then compared."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from psycopg import errors, sql

from dbkeep.backup.drill import Proof
from dbkeep.backup.manifest import Part
from dbkeep.backup.postgresql import server_version, shape
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.target_postgresql import restore_files
from dbkeep.postgresql import counts
from dbkeep.postgresql.connect import Connection, connect
from dbkeep.sandbox import postgresql as sandbox

RECOVERY_SECONDS = 24 * 3600


def drill(host: BackupHost, part: Part, identity: str, folder: Path, proof: Proof) -> None:
    """Restore and compare."""
    settings, original = host.with_postgresql()
    data = folder / "restored"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        user = pwd.getpwnam(settings.os_user)
        os.chown(data, user.pw_uid, user.pw_gid)
    restore_files(host, part, identity, data, archive=False)
    with (
        sandbox.start(folder / "server", data_directory=data, timeout=RECOVERY_SECONDS) as copy,
        connect(copy, original.database) as connection,
    ):
        proof.restored(server_version(connection))
        found = counts(copy.model_copy(update={"database": original.database}))
        proof.counts("rows", part.counts, found)
        proof.equal("tables, columns, row security and policies", part.details["shape"], shape(connection))
        _prove_row_security(connection, part, found, settings.application_role, proof)


def _prove_row_security(connection: Connection, part: Part, rows: dict[str, int], role: str, proof: Proof) -> None:
    """With no user set, the application's role sees no row of any table that forces row security."""
    forced = [name for name, flags in part.details["shape"]["tables"].items() if flags["forced"]]
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    try:
        seen = {name: _rows_seen(connection, name) for name in forced}
    finally:
        connection.execute("RESET ROLE")
    for name, number in seen.items():
        what = f"rows {role} sees of {name} with no user set, of {rows.get(name, 0)}"
        proof.that(what, 0, number, number in (0, "denied"))
    # A role that may read nothing would pass all of the above without any policy having been asked.
    readable = sum(number != "denied" for number in seen.values())
    proof.that(f"tables with forced row security that {role} may read", "1 or more", readable, readable > 0)


def _rows_seen(connection: Connection, name: str) -> int | str:
    schema, _, table = name.partition(".")
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
    try:
        row = connection.execute(query).fetchone()
    except errors.InsufficientPrivilege:
        return "denied"
    return int(row[0]) if row else 0
