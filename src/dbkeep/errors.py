"""The errors that end a command with one line instead of a traceback."""

from pathlib import Path


class DbkeepError(Exception):
    """What failed, where, and what to do next, in one line.

    The command line prints it and exits with `exit_code`: 1 for a failure of the work itself,
    2 for wrong usage or a tool that cannot do its job.
    """

    exit_code = 1


class UsageError(DbkeepError):
    """The command, its input or its surroundings are not usable; nothing was changed."""

    exit_code = 2


class DeclaredError(UsageError):
    """A declared-state file is wrong; the message names file, line and key."""

    def __init__(self, message: str, *, path: Path | str, line: int | None = None, key: str | None = None) -> None:
        where = f"{path}:{line}" if line else str(path)
        super().__init__(f"{where}: {key}: {message}" if key else f"{where}: {message}")
        self.path, self.line, self.key = str(path), line, key
