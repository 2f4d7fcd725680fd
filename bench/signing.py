"""The signing key of a host that is measured: made anew, in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbkeep.backup.signature import new_signing_key, public_half
from dbkeep.files import write_atomically


def signing(folder: Path) -> dict[str, Any]:
    """Write a new key into `folder` and return the settings of BackupSettings that sign and believe it."""
    key, path = new_signing_key(), folder / "signing-key"
    write_atomically(path, key, mode=0o600)
    return {"signing_keys": (public_half(key),), "signing_key_file": path}
