"""The signing key of the tests' environments: what one host signs another one believes."""

from __future__ import annotations

from pathlib import Path

from dbkeep.backup.signature import new_signing_key, public_half

KEY = new_signing_key()
PUBLIC = (public_half(KEY),)


def write_key(folder: Path, key: str = KEY, name: str = "backup-signing-key") -> Path:
    """Put the private key where only its owner reads it, as site.yml does, and return the file."""
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(key, encoding="utf-8")
    return path
