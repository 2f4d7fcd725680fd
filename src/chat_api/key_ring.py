"""The versions of one key, as the text that the vault and the API's credential hold: `VERSION:KEY`, one a line.

The highest version is the one to write with. `VERSION:KEY:pending` is only for reading what others already write with
it: a new key waits like that until every process has it. A key alone on its line is version 1.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

KEY_BYTES = 32
PENDING = "pending"

_LINE = re.compile(rf"(?:(?P<version>[1-9][0-9]{{0,8}}):)?(?P<key>[A-Za-z0-9+/_-]+=*)(?P<pending>:{PENDING})?")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """`keys` by version, the highest of them `pending` or not. Raises ValueError for a ring that cannot write."""

    keys: Mapping[int, bytes] = field(repr=False)
    pending: int | None = None

    def __post_init__(self) -> None:
        if not set(self.keys) - {self.pending}:
            raise ValueError("no key to write with")
        if self.pending is not None and self.pending != max(self.keys):
            raise ValueError("only the highest version can be pending")
        if any(len(key) != KEY_BYTES for key in self.keys.values()):
            raise ValueError(f"a key is not {KEY_BYTES} bytes in base64")
        if len(set(self.keys.values())) < len(self.keys):
            raise ValueError("two versions have the same key")

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Return the ring that `text` describes; raises ValueError, without any of it, if it is none."""
        keys: dict[int, bytes] = {}
        pending = None
        for line in text.split():
            found = _LINE.fullmatch(line)
            if not found:
                raise ValueError("a line is not VERSION:KEY")
            version = int(found["version"] or 1)
            if version in keys:
                raise ValueError(f"version {version} stands twice")
            keys[version] = _decode(found["key"])
            pending = version if found["pending"] else pending
        return cls(keys, pending)

    @property
    def text(self) -> str:
        """The text that `parse` reads."""
        lines = (
            f"{version}:{base64.urlsafe_b64encode(key).rstrip(b'=').decode()}"
            f"{f':{PENDING}' if version == self.pending else ''}"
            for version, key in sorted(self.keys.items())
        )
        return "\n".join(lines)

    @property
    def newest(self) -> int:
        """The version to write with."""
        return max(version for version in self.keys if version != self.pending)

    def with_pending(self, version: int, key: bytes) -> KeyRing:
        """Return the ring with a new key that nobody writes with yet; raises ValueError when one is pending already."""
        if self.pending is not None:
            raise ValueError(f"version {self.pending} is still pending")
        return KeyRing({**self.keys, version: key}, version)

    def promoted(self) -> KeyRing:
        """Return the ring with its pending key as the newest."""
        return KeyRing(self.keys)

    def without(self, version: int) -> KeyRing:
        return KeyRing({other: key for other, key in self.keys.items() if other != version}, self.pending)


def _decode(text: str) -> bytes:
    standard = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
