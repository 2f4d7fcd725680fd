"""Small file systems, which a test fills up: what is written to them really ends with ENOSPC."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(folder: Path, size: str, mode: int = 0o711) -> Iterator[Path]:
    """A file system of its own, of that size, at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode:o}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def full(folder: Path, left: int) -> Iterator[None]:
    """Fill the file system of `folder` up to the last `left` bytes during the block."""
    filler = folder / "filler"
    state = os.statvfs(folder)
    filler.write_bytes(bytes(state.f_bavail * state.f_frsize - left))
    try:
        yield
    finally:
        filler.unlink()
