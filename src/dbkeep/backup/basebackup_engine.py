"""PostgreSQL's backup by pg_basebackup, everything sealed to public keys: the host cannot read its own backups.

Every backup is a full one. WAL is sealed by the server's archive_command, roles/backup/files/dbkeep-archive-wal, and a
restore opens with the identity all that it needs before the server starts.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from dbkeep.backup.job import Job
from dbkeep.backup.log.wal_archive import (
    WalArchive,
    archive_segment,
    segment_bytes,
    wait_until_archived,
    write_transaction,
)
from dbkeep.backup.manifest import Part, StoredFile, read_sets
from dbkeep.backup.postgresql_engine import Goal, Taken
from dbkeep.backup.restore.safety_copy import give
from dbkeep.backup.sealed_file import BLOCK, inflate, inflate_to, seal, unseal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import Connection, connect
from dbkeep.sandbox.postgresql import find_binaries
from dbkeep.settings import PostgreSQLSettings

BASE = "base.tar.zst.age"
FOLDER = "postgresql/wal"
# Below the data directory, in which the server runs its commands: it goes with the recovery that needs it.
OPENED = "dbkeep_recovery"
# The copy's first file is backup_label (PostgreSQL manual, 26.3.3).
HEAD = 4096
_START = re.compile(rb"START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)")
_RECOVERY = re.compile(r"\s*(recovery_|restore_command|archive_mode)")


def take(job: Job) -> Taken:
    """Copy the cluster into the part, as a stream never on disk in clear. Raises DbkeepError when that fails."""
    backup, server = job.host.with_postgresql()
    job.progress("postgresql: full backup by pg_basebackup")
    with connect(server) as connection:
        binaries = find_binaries(connection.info.server_version // 10000)
    head = bytearray()
    with tempfile.TemporaryFile() as said:
        chunks = _stream(_command(binaries, server), backup.os_user, said)
        stored = seal(_noted(chunks, head), job.folder / BASE, job.settings.recipients)
    start = _START.search(head)
    if start is None:
        raise DbkeepError("postgresql: what pg_basebackup wrote does not begin with where its WAL starts")
    return Taken(
        first_segment=start[1].decode(),
        stored_bytes=stored.size,
        tools={"pg_basebackup": _version(binaries)},
        details={"label": stored.name, "type": "full", "database_bytes": stored.plain_size},
        files=(stored,),
    )


def _command(binaries: Path, server: PostgreSQLSettings) -> list[str]:
    reach = [f"--host={server.socket_directory}", f"--port={server.port}", f"--username={server.user}", "--no-password"]
    how = ["--pgdata=-", "--format=tar", "--wal-method=none", "--checkpoint=fast"]
    return [str(binaries / "pg_basebackup"), *reach, *how]


def _version(binaries: Path) -> str:
    done = subprocess.run([str(binaries / "pg_basebackup"), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[2]


def _identity(os_user: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(os_user)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": os.getgrouplist(os_user, user.pw_gid)}


def _stream(command: Sequence[str], os_user: str, said: IO[bytes]) -> Iterator[bytes]:
    """Yield what a program writes; raises DbkeepError when it fails, so that what was read of it is not used."""
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *command],
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
        **_identity(os_user),
    ) as process:
        while block := cast(IO[bytes], process.stdout).read(BLOCK):
            yield block
    if process.returncode:
        raise DbkeepError(f"postgresql: pg_basebackup failed: {(_text(said).splitlines() or ['no reason given'])[-1]}")


def _noted(chunks: Iterable[bytes], head: bytearray) -> Iterator[bytes]:
    for chunk in chunks:
        head += chunk[: HEAD - len(head)]
        yield chunk


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode("utf-8", "replace")


def archive(host: BackupHost, connection: Connection, taken: Taken | None = None) -> WalArchive:
    """Return the archive of the cluster that `connection` reaches."""
    del taken
    row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row is not None  # noqa: S101 - the function returns one row
    return WalArchive(host.settings.repository / FOLDER / row[0], segment_bytes(connection))


def files(job: Job, taken: Taken, archive: WalArchive) -> tuple[StoredFile, ...]:
    """Return the sealed copy."""
    del job, archive
    return taken.files


def repository_files(job: Job, taken: Taken, archive: WalArchive, until: str) -> list[Path]:
    """Return the WAL from the backup's start, and the histories of the timelines."""
    del job
    return [*archive.files(taken.first_segment, until).values(), *archive.histories()]


def restore(host: BackupHost, part: Part, identity: str, folder: Path, goal: Goal, *, archive: bool) -> None:
    """Open the copy and all WAL that it needs, with the identity, and set the server to recover from there."""
    os_user = host.with_postgresql()[0].os_user
    with tempfile.TemporaryDirectory(dir=host.settings.drill_directory) as workspace:
        packed = Path(workspace) / "packed"
        unseal(host.sets / part.set_id / part.engine, part.files[0], packed, identity)
        _unpack(packed, folder, os_user)
        (folder / OPENED).mkdir(mode=0o700)
        slices = [stored for found in goal.slices for stored in found.repository_files]
        for stored in {stored.name: stored for stored in (*part.repository_files, *slices)}.values():
            unseal(host.settings.repository, stored, packed, identity)
            inflate_to(packed, folder / OPENED / Path(stored.name).name.partition("-")[0])
    _set_recovery(folder, goal, archive=archive)
    give(folder, os_user)


def _unpack(packed: Path, folder: Path, os_user: str) -> None:
    # A tar that ends early says so by its status.
    with (
        suppress(BrokenPipeError),
        inflate(packed) as source,
        subprocess.Popen(
            ["tar", "--extract", "--preserve-permissions", f"--directory={folder}"],
            stdin=subprocess.PIPE,
            **_identity(os_user),
        ) as tar,
    ):
        shutil.copyfileobj(source, cast(IO[bytes], tar.stdin), BLOCK)
    if tar.returncode:
        raise DbkeepError(f"{folder}: tar could not unpack the copy; look at the space left on the disk")


def _set_recovery(folder: Path, goal: Goal, *, archive: bool) -> None:
    """The copy may have settings of an earlier recovery: two targets would be one too many."""
    path = folder / "postgresql.auto.conf"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not _RECOVERY.match(line)]
    settings = {
        "restore_command": f'cp "{OPENED}/%f" "%p"',
        f"recovery_target_{goal.kind}": goal.value,
        "recovery_target_timeline": str(goal.timeline),
        "recovery_target_action": "promote",
        "recovery_end_command": f"rm -r {OPENED}",
        **({} if archive else {"archive_mode": "off"}),
    }
    path.write_text("\n".join([*lines, *(f"{name} = '{value}'" for name, value in settings.items()), ""]), "utf-8")
    (folder / "recovery.signal").touch(mode=0o600)


def verify(host: BackupHost, part: Part) -> list[str]:
    """Nothing is known beside the digests: the host cannot read what it stored."""
    del host, part
    return []


def resume_archiving(host: BackupHost, part: Part, connection: Connection) -> None:
    """Return when a segment of the restored cluster's new timeline is archived."""
    del host, part
    write_transaction(connection)
    wait_until_archived(connection, archive_segment(connection))


def expire(host: BackupHost) -> None:
    """Remove the WAL from before the oldest set that is kept; that of clusters that have no set is left.

    None is removed while a damaged manifest hides which set is the oldest.
    """
    damaged: list[str] = []
    sets = read_sets(host.sets, host.settings.signing_keys, damaged)
    if damaged:
        return
    parts = [parts["postgresql"] for parts in sets if "postgresql" in parts]
    oldest: dict[str, str] = {}
    for part in parts:
        cluster, first = part.details["system_identifier"], part.details["first_segment"]
        oldest[cluster] = min(oldest.get(cluster, first), first)
    for cluster, first in oldest.items():
        for path in _segments(host.settings.repository / FOLDER / cluster):
            if path.name[8:24] < first[8:24] and path.name[:8] <= first[:8]:
                path.unlink()


def _segments(folder: Path) -> Iterable[Path]:
    return folder.glob("*/*.age")
