"""What the server's settings are: in force, in the files that it reads, and in the text of our own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from dbkeep.errors import UsageError
from dbkeep.postgresql.connect import Connection

# The reset value, because what SHOW prints depends on the session: on a socket, tcp_keepalives_idle is 0 for everyone.
IN_FORCE = """
SELECT lower(name), reset_val, context, vartype, unit, enumvals, min_val::float8, max_val::float8, source,
       pending_restart
FROM pg_settings
"""
LINES = "SELECT lower(name), setting, sourcefile, sourceline, error FROM pg_file_settings ORDER BY seqno"
PLACES = """
SELECT current_setting('data_directory') || '/postgresql.auto.conf', extract(epoch FROM pg_conf_load_time())::float8
"""


@dataclass(frozen=True, slots=True)
class LiveSetting:
    """One row of pg_settings. `context` says when a change takes effect, `kind` and the rest what its values are."""

    value: str
    context: str = "sighup"
    kind: str = "string"
    unit: str | None = None
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    source: str = "configuration file"
    pending_restart: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a configuration file, as the next reload would read it; a later line of a name wins."""

    name: str | None
    value: str | None
    path: Path
    number: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LiveConfiguration:
    """`files` is the text of our files, None where one is missing; `automatic_file` is what ALTER SYSTEM writes.

    `unread` are those of our files that changed after the server read its configuration.
    """

    version: int
    settings: dict[str, LiveSetting]
    lines: tuple[Line, ...]
    automatic_file: Path
    files: dict[Path, str | None] = field(default_factory=dict)
    unread: tuple[Path, ...] = ()

    @property
    def major(self) -> int:
        return self.version // 10000


def inspect(connection: Connection, paths: Collection[Path]) -> LiveConfiguration:
    """Return the settings of the server and the text of the files at `paths` and of the automatic one.

    The connection sets nothing itself, or that would be seen. Raises UsageError when a file cannot be read.
    """
    settings = {
        name: LiveSetting(value or "", context, kind, unit, tuple(choices or ()), low, high, source, pending)
        for name, value, context, kind, unit, choices, low, high, source, pending in connection.execute(IN_FORCE)
    }
    lines = tuple(
        Line(name, value, Path(path or ""), number or 0, error)
        for name, value, path, number, error in connection.execute(LINES)
    )
    automatic_file, read_at = connection.execute(PLACES).fetchone() or ("", 0.0)
    files = {path: _text(path) for path in (*paths, Path(automatic_file))}
    unread = tuple(path for path in paths if path.exists() and path.stat().st_ctime > read_at)
    return LiveConfiguration(connection.info.server_version, settings, lines, Path(automatic_file), files, unread)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; run as root, or run playbooks/site.yml") from None
