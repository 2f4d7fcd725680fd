"""A host's signing key, for parts, slices and points that a test writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dbkeep.backup.signature import new_signing_key, public_half


@dataclass(frozen=True)
class Signer:
    """A host's key in its file, and the public keys that readers believe."""

    file: Path
    keys: tuple[str, ...]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    key = new_signing_key()
    path = tmp_path / "signing-key"
    path.touch(mode=0o600)
    path.write_text(key)
    return Signer(path, (public_half(new_signing_key()), public_half(key)))
