"""What an apply does on the host itself: the files and services of the instances."""

from __future__ import annotations

import subprocess

from dbkeep.errors import DbkeepError
from dbkeep.files import write_atomically
from dbkeep.redis.statements import Restart, WriteFile


def replace_file(operation: WriteFile) -> None:
    """Give a file its new text; it keeps owner and mode. Raises DbkeepError when the file system refuses."""
    path = operation.path
    try:
        status = path.stat()
        write_atomically(path, operation.text, mode=status.st_mode & 0o777, owner=(status.st_uid, status.st_gid))
    except OSError as error:
        raise DbkeepError(f"{path}: cannot be written: {error.strerror}") from None


def restart(operation: Restart) -> None:
    """Restart a service and return when it serves again (its unit is of Type=notify).

    Raises DbkeepError when it does not come back.
    """
    command = ["systemctl", "restart", operation.unit]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
        raise DbkeepError(f"{' '.join(command)}: {reason}; see journalctl -u {operation.unit}") from None
