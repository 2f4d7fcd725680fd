"""PostgreSQL's sides of `backup.py`: a full backup by dbkeep, and by pgBackRest's command alone."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyrage

from cost import Cost, cost_of
from dbkeep.backup.manifest import set_id_of
from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, BackupSettings, PostgreSQLBackup
from dbkeep.evidence import now
from dbkeep.postgresql.connect import connect
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import age_recipient, new_password
from signing import signing

STANZA = "bench"
ROWS_OF_A_MEGABYTE = 5000
# Chat accounts as they are: short columns, half of them text that compresses.
TABLE = """
CREATE TABLE chat.users AS SELECT n AS id, md5(n::text) AS name, repeat('bio ', 20) || md5((n * 7)::text) AS bio
FROM generate_series(1, {rows}) AS n
"""


@dataclass
class PostgreSQL:
    """A server with a table, which archives into the repository of its stanza."""

    host: BackupHost
    pgbackrest: PgBackRest
    process: int
    sets: int = 0

    @classmethod
    @contextmanager
    def start(cls, folder: Path, megabytes: int) -> Iterator[PostgreSQL]:
        folder.mkdir(parents=True)
        folder.chmod(0o711)
        configuration = write_configuration(folder)
        # Filled without archiving, so that the repository begins with the first backup.
        with sandbox.start(folder / "pg", options={"wal_level": "minimal", "max_wal_senders": "0"}) as server:
            with connect(server, "postgres") as connection:
                connection.execute("CREATE DATABASE chat")
            with connect(server) as connection:
                connection.execute("CREATE SCHEMA chat")
                connection.execute(TABLE.format(rows=megabytes * ROWS_OF_A_MEGABYTE).encode())
                connection.execute("ALTER TABLE chat.users ADD PRIMARY KEY (id)")
                connection.execute("VACUUM (ANALYZE) chat.users")  # as autovacuum leaves it; CREATE TABLE AS does not
        archive = f"pgbackrest --config={configuration} --stanza={STANZA} archive-push %p"
        options = {"archive_mode": "on", "archive_command": archive, "wal_level": "replica"}
        with sandbox.start(folder / "pg", options=options) as server:
            # No days between two full backups: both sides do the same work each time.
            backup = PostgreSQLBackup(
                stanza=STANZA, configuration=configuration, data_directory=folder / "pg" / "data", service="postgresql"
            ).model_copy(update={"full_after_days": 0})
            settings = BackupSettings(
                repository=folder / "backup",
                evidence=folder / "evidence",
                recipients=(age_recipient(str(pyrage.x25519.Identity.generate())),),
                **signing(folder),
                postgresql=backup,
            )
            pgbackrest = PgBackRest(STANZA, configuration, "postgres")
            pgbackrest.run("stanza-create")
            process = int((folder / "pg" / "data" / "postmaster.pid").read_text().split()[0])
            yield cls(BackupHost(settings, postgresql=server), pgbackrest, process)

    def run(self) -> Cost:
        self.sets += 1
        set_id = set_id_of(now() + timedelta(seconds=self.sets))
        return cost_of(lambda: run(self.host, set_id), [self.process])

    def by_hand(self) -> Cost:
        options = ("--type=full", "--start-fast", "--archive-timeout=60", "--no-expire-auto")
        return cost_of(lambda: self.pgbackrest.run("backup", *options), [self.process])


def write_configuration(folder: Path, port: int = 5432) -> Path:
    """Write pgBackRest's configuration, and make its folders below `folder`, for a cluster in `folder`/pg on `port`."""
    user = pwd.getpwnam("postgres")
    (folder / "backup").mkdir(mode=0o711)
    for name in ("backup/postgresql", "log", "lock", "spool"):
        (folder / name).mkdir(mode=0o750)
        os.chown(folder / name, user.pw_uid, user.pw_gid)
    path = folder / "pgbackrest.conf"
    path.write_text(
        f"""[global]
repo1-path={folder}/backup/postgresql
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={new_password()}
repo1-bundle=y
repo1-retention-full-type=time
repo1-retention-full=14
expire-auto=n
log-path={folder}/log
lock-path={folder}/lock
spool-path={folder}/spool
compress-type=zst
compress-level=3
process-max=2
[{STANZA}]
pg1-path={folder}/pg/data
pg1-socket-path={folder}/pg/socket
pg1-port={port}
""",
        encoding="utf-8",
    )
    os.chown(path, user.pw_uid, user.pw_gid)
    path.chmod(0o640)
    return path
