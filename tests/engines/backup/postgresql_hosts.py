"""A host with PostgreSQL alone, backed up by one of the engines, for tests of what every engine has to do."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from dbkeep.backup.log.postgresql import cut
from dbkeep.backup.log.slices import Slice, newest_slice
from dbkeep.backup.manifest import Part, RecoveryPoint, set_id_of
from dbkeep.backup.restore.target_postgresql import restore_files
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, PostgreSQLBackup
from dbkeep.environment import checkout
from dbkeep.postgresql.connect import connect
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import age_recipient
from dbkeep.settings import PostgreSQLSettings

from .conftest import SandboxService, backup_settings, stanza_create, write_pgbackrest

SCRIPT = checkout() / "roles/backup/files/dbkeep-archive-wal"
Engine = Literal["pgbackrest", "basebackup"]
CANARY = "canary-5d0c71ee"


@dataclass
class PostgreSQLHost:
    """`service` is the live server; `identity` opens what the engine sealed."""

    folder: Path
    host: BackupHost
    identity: str
    service: SandboxService
    last: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    @property
    def server(self) -> PostgreSQLSettings:
        return self.host.with_postgresql()[1]

    def take(self) -> Part:
        return run(self.host, self.another_id())[0]

    def another_id(self) -> str:
        """Return an id that no set of this host has yet."""
        self.last = max(self.last + timedelta(seconds=1), datetime.now(UTC))
        return set_id_of(self.last)

    def cut(self) -> list[Slice]:
        return cut(
            self.host, newest_slice(self.host.settings.repository, "postgresql", self.host.settings.signing_keys)
        )

    def write(self, number: int) -> None:
        with connect(self.server) as connection:
            connection.execute("INSERT INTO chat.records VALUES (%s, %s)", [number, f"{CANARY} {number}"])

    def rows(self, server: PostgreSQLSettings | None = None) -> list[int]:
        with connect(server or self.server, "chat") as connection:
            return [row[0] for row in connection.execute("SELECT n FROM chat.records ORDER BY n")]

    @contextmanager
    def copy(self, part: Part, target: RecoveryPoint | None, identity: str = "") -> Iterator[PostgreSQLSettings]:
        """A throw-away server with the part, carried on to the target."""
        data = self.folder / f"copy-{datetime.now(UTC):%H%M%S%f}"
        data.mkdir(mode=0o700)
        user = pwd.getpwnam("postgres")
        os.chown(data, user.pw_uid, user.pw_gid)
        restore_files(self.host, part, identity or self.identity, data, archive=False, target=target)
        with sandbox.start(data.with_name(f"{data.name}-server"), data_directory=data, timeout=600) as server:
            yield server

    def restored(self, part: Part, target: RecoveryPoint | None = None) -> list[int]:
        """Return the rows of a throw-away server with the part, carried on to the target."""
        with self.copy(part, target) as server:
            return self.rows(server)


@contextmanager
def make_host(folder: Path, engine: Engine, identity: str) -> Iterator[PostgreSQLHost]:
    """A host whose empty cluster `engine` backs up, with a table of numbered records."""
    configuration = write_pgbackrest(folder)
    options = {
        "archive_mode": "on",
        "wal_level": "replica",
        "archive_command": archive_command(folder, engine, identity),
    }
    service = SandboxService(lambda: sandbox.start(folder / "pg", options=options))
    service.start()
    try:
        backup = PostgreSQLBackup(
            engine=engine,
            configuration=configuration,
            data_directory=folder / "pg/data",
            service="postgresql",
            archive_seconds=0,
        )
        settings = backup_settings(
            folder,
            identity,
            postgresql=backup,
        )
        settings.drill_directory.mkdir(mode=0o711)
        made = PostgreSQLHost(folder, BackupHost(settings, postgresql=service.settings), identity, service)
        if engine == "pgbackrest":
            stanza_create(configuration)
        with connect(made.server, "postgres") as connection:
            connection.execute("CREATE DATABASE chat")
        with connect(made.server) as connection:
            connection.execute("CREATE SCHEMA chat")
            connection.execute("CREATE TABLE chat.records (n int PRIMARY KEY, text text)")
        yield made
    finally:
        service.stop()


def archive_command(folder: Path, engine: str, identity: str) -> str:
    """Return what the role backup writes for the engine."""
    if engine == "pgbackrest":
        return f"pgbackrest --config={folder}/pgbackrest.conf --stanza=chat archive-push %p"
    user = pwd.getpwnam("postgres")
    recipients, wal, script = folder / "recipients", folder / "backup/postgresql/wal", folder / SCRIPT.name
    recipients.write_text(f"{age_recipient(identity)}\n", "utf-8")
    shutil.copy(SCRIPT, script)
    wal.mkdir(mode=0o750)
    os.chown(wal, user.pw_uid, user.pw_gid)
    return f"{script} {recipients} {wal} %p"
