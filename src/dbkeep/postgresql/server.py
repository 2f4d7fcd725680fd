"""What an apply does to the server as a whole: writes its files, has them read, resets a setting, restarts it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.host import replace_file, restart
from dbkeep.postgresql.connect import MAINTENANCE, Connection, connect
from dbkeep.settings import PostgreSQLSettings

RELOAD_SECONDS = 10
RESTART_SECONDS = 300
# A setting that needs a restart is reported with the same words as one that the server does not take.
ERRORS = """
SELECT f.sourcefile || ':' || f.sourceline || coalesce(': ' || f.name, '') || ': ' || error
FROM pg_file_settings f LEFT JOIN pg_settings s ON lower(s.name) = lower(f.name)
WHERE error IS NOT NULL AND f.sourcefile = %(path)s AND s.context IS DISTINCT FROM 'postmaster'
UNION ALL
SELECT %(path)s || ':' || line_number || ': ' || error FROM pg_hba_file_rules
WHERE error IS NOT NULL AND current_setting('hba_file') = %(path)s
UNION ALL
SELECT %(path)s || ':' || line_number || ': ' || error FROM pg_ident_file_mappings
WHERE error IS NOT NULL AND current_setting('ident_file') = %(path)s
"""


@dataclass(frozen=True, slots=True)
class WriteFile:
    """New text for a configuration file, which the server then reads."""

    path: Path
    new_text: str = field(repr=False)

    def text(self) -> str:
        return f"write {self.path}; SELECT pg_reload_conf()"


@dataclass(frozen=True, slots=True)
class ResetSetting:
    """Takes back what ALTER SYSTEM set."""

    name: str

    def text(self) -> str:
        return f"ALTER SYSTEM RESET {self.name}; SELECT pg_reload_conf()"


@dataclass(frozen=True, slots=True)
class Reload:
    """Has the server read its files again."""

    def text(self) -> str:
        return "SELECT pg_reload_conf()"


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart of the server's service, for what only its start reads."""

    unit: str

    def text(self) -> str:
        return f"systemctl restart {self.unit}"


Operation = WriteFile | ResetSetting | Reload | Restart


def run(settings: PostgreSQLSettings, operation: Operation) -> None:
    """Do it, and return when every new session finds it done.

    Raises DbkeepError when the server refuses a file's text, which then is what it was before, or does not come back.
    """
    if isinstance(operation, Restart):
        restart(operation.unit)
        _wait(settings)
        return
    with connect(settings, MAINTENANCE) as connection:
        if isinstance(operation, WriteFile):
            _write(connection, operation)
        elif isinstance(operation, ResetSetting):
            names = [sql.Identifier(part) for part in operation.name.split(".")]
            connection.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.SQL(".").join(names)))
        _reload(connection)


def _wait(settings: PostgreSQLSettings) -> None:
    """Debian's unit counts as started however its server does, which may still replay what it had not yet written."""
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            with connect(settings, MAINTENANCE):
                return
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _write(connection: Connection, operation: WriteFile) -> None:
    before = operation.path.read_text(encoding="utf-8", errors="replace") if operation.path.exists() else None
    replace_file(operation.path, operation.new_text)
    wrong = connection.execute(ERRORS, {"path": str(operation.path)}).fetchone()
    if wrong:
        if before is None:
            operation.path.unlink()
        else:
            replace_file(operation.path, before)
        with suppress(DbkeepError):
            _reload(connection)
        raise DbkeepError(f"the server refuses {wrong[0]}; the file is as it was")


def _reload(connection: Connection) -> None:
    """The server tells its sessions to read the files after it has read them itself."""
    loaded = _loaded(connection)
    connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + RELOAD_SECONDS
    while _loaded(connection) == loaded:
        if time.monotonic() > deadline:
            raise DbkeepError("the server did not read its configuration: its log says why")
        time.sleep(0.01)


def _loaded(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    row = connection.execute("SELECT pg_conf_load_time()").fetchone()
    return row[0] if row else None
