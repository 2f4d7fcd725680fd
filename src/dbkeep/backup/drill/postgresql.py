"""Drills a part of PostgreSQL: restored beside the live cluster, never archiving, then compared."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import errors, sql

from dbkeep.backup.drill.copy import Copy, Serving
from dbkeep.backup.drill.proof import Proof
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.postgresql import server_version, shape
from dbkeep.backup.restore.target import Chosen
from dbkeep.backup.restore.target_postgresql import restore_files
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.table_digests import digest, prepare_session
from dbkeep.errors import DbkeepError
from dbkeep.ports import LOOPBACK, free_port
from dbkeep.postgresql import counts
from dbkeep.postgresql.connect import Connection, connect
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

RECOVERY_SECONDS = 24 * 3600
BAD_BLOCKS = "Bad checksums:"


@contextmanager
def copied(host: BackupHost, one: Chosen, identity: str, serving: Serving, proof: Proof) -> Iterator[Copy]:
    """Restore and start; at the end, when the server has stopped, compare every page with its checksum."""
    settings, original = host.with_postgresql()
    data = serving.folder / "restored"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        user = pwd.getpwnam(settings.os_user)
        os.chown(data, user.pw_uid, user.pw_gid)
    restore_files(host, one.part, identity, data, archive=False, target=one.point)
    port = free_port()
    certificate, key, _ = serving.authority.issue("postgresql", (settings.os_user, "postgres", "nobody"))
    encrypted = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    with sandbox.start(
        serving.folder / "server",
        data_directory=data,
        timeout=RECOVERY_SECONDS,
        port=port,
        listen_addresses=LOOPBACK,
        options=encrypted,
    ) as server:
        reached = server.model_copy(update={"database": original.database})
        with connect(reached) as connection:
            proof.restored(server_version(connection))
            if one.point:
                _compare_end(connection, data, one.point, proof)
        yield Copy(reached, {"postgresql": port}, serving)
    _compare_checksums(data, proof)


def _compare_end(connection: Connection, data: Path, point: RecoveryPoint, proof: Proof) -> None:
    """Recovery stopped at the restore point, as the history of the new timeline says, or not later than the time."""
    if point.name:
        histories = sorted((data / "pg_wal").glob("*.history"))
        reasons = [line.split("\t", 2)[-1].strip() for path in histories[-1:] for line in path.read_text().splitlines()]
        proof.equal("where recovery stopped", f'at restore point "{point.name}"', (reasons or ["nowhere"])[-1])
        return
    row = connection.execute("SELECT pg_last_xact_replay_timestamp()").fetchone()
    last = row[0] if row else None
    what = f"the last transaction that was replayed, not after {point.at.isoformat()}"
    proof.that(what, "before", last and last.isoformat(), last is None or last <= point.at)


def inspect(host: BackupHost, copy: Copy, proof: Proof) -> None:
    """Ask whether row security hides every row, and compare heaps and B-trees with their own rules."""
    reached: PostgreSQLSettings = copy.settings
    with connect(reached) as connection:
        _prove_row_security(connection, counts(reached), host.with_postgresql()[0].application_role, proof)
        _compare_structures(connection, reached, proof)


def compare(host: BackupHost, part: Part, copy: Copy, proof: Proof) -> None:
    """Compare rows, tables and policies with the manifest."""
    del host
    reached: PostgreSQLSettings = copy.settings
    with connect(reached) as connection:
        found = counts(reached)
        proof.counts("rows", part.counts, found)
        prepare_session(connection)
        observed = {name: digest(connection, name) for name in part.digests if name in found}
        proof.digests("rows", part.digests, observed)
        proof.equal("tables, columns, row security and policies", part.details["shape"], shape(connection))


def _compare_structures(connection: Connection, reached: PostgreSQLSettings, proof: Proof) -> None:
    """pg_amcheck reads every heap, its TOAST and every B-tree of the database (PostgreSQL manual, pg_amcheck)."""
    program = sandbox.find_binaries(connection.info.server_version // 10000) / "pg_amcheck"
    where = [f"--host={reached.socket_directory}", f"--port={reached.port}", f"--username={reached.user}"]
    command = [str(program), *where, f"--database={reached.database}", "--install-missing"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DbkeepError(f"{program} is missing; install the Debian package of the PostgreSQL server") from None
    # It exits 2 with findings and 1 when it could not look.
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    proof.equal("damage that pg_amcheck finds in heaps and B-trees", [], said[:3] if done.returncode else [])
    connection.execute("DROP EXTENSION IF EXISTS amcheck")


def _compare_checksums(data: Path, proof: Proof) -> None:
    """The cluster is stopped (PostgreSQL manual, pg_checksums)."""
    binaries = sandbox.find_binaries(int((data / "PG_VERSION").read_text(encoding="ascii")))
    command = [str(binaries / "pg_checksums"), "--check", "-D", str(data)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    counted = [line.split(":")[1].strip() for line in done.stdout.splitlines() if line.startswith(BAD_BLOCKS)]
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    proof.that("pages with a wrong checksum", "0", (counted or [reason])[0], done.returncode == 0 and counted == ["0"])


def _prove_row_security(connection: Connection, rows: dict[str, int], role: str, proof: Proof) -> None:
    """With no user set, the application's role sees no row of any table that forces row security."""
    forced = [name for name, flags in shape(connection)["tables"].items() if flags["forced"]]
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
