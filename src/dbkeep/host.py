"""What an apply does on the host itself: files and services of the engines."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dbkeep.errors import DbkeepError
from dbkeep.files import write_atomically

NEW_FILE_MODE = 0o640


def replace_file(path: Path, text: str) -> None:
    """Give a file its new text; it keeps owner and mode, a missing one gets its folder's owner.

    Raises DbkeepError when the file system refuses.
    """
    try:
        status = path.stat() if path.exists() else path.parent.stat()
        mode = status.st_mode & 0o777 if path.exists() else NEW_FILE_MODE
        write_atomically(path, text, mode=mode, owner=(status.st_uid, status.st_gid))
    except OSError as error:
        raise DbkeepError(f"{path}: cannot be written: {error.strerror}") from None


def restart(unit: str) -> None:
    """Restart a service and return when it serves again (its unit is of Type=notify or forking).

    Raises DbkeepError when it does not come back.
    """
    command = ["systemctl", "restart", unit]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
        raise DbkeepError(f"{' '.join(command)}: {reason}; see journalctl -u {unit}") from None
