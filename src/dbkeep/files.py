"""Writes a file as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

WIDEST_SECRET = 0o640


def open_mode(path: Path) -> str | None:
    """Return the mode of a secret's file when others than its owner and group can use it, else None."""
    mode = path.stat().st_mode & 0o777
    return f"{mode:04o}" if mode & ~WIDEST_SECRET else None


def write_atomically(
    path: Path, content: str | bytes, *, mode: int = 0o644, owner: tuple[int, int] | None = None
) -> None:
    """Replace `path` by `content` with permissions `mode`; a reader sees the old file or the new one, never a part.

    `owner` is a user and a group id; without it the file is the caller's.

    The content is never on disk with wider permissions than `mode`.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
