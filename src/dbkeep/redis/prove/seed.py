"""What the probes plant: a key of every declared keyspace that holds a word which nobody else may come to know."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from dbkeep.redis.declared import Declared, Keyspace

MARK = "dbkeep-probe"
"""Every key and channel that a probe names has this behind its prefix, or stands below it."""
UNDECLARED = f"{MARK}:"
SECONDS = "120"


@dataclass(frozen=True, slots=True)
class Seed:
    """`word` is in the value and in the name of every planted key."""

    word: str = field(default_factory=lambda: secrets.token_hex(12))

    def key(self, prefix: str) -> str:
        """Return the name of the planted key below `prefix`."""
        return f"{prefix}{MARK}:{self.word}"

    def victims(self, declared: Declared, instance: str) -> dict[str, str]:
        """Return the planted keys of `instance` by prefix; the undeclared prefix has one too."""
        prefixes = [keyspace.prefix for keyspace in keyspaces(declared, instance)]
        return {prefix: self.key(prefix) for prefix in (*prefixes, UNDECLARED)}


def keyspaces(declared: Declared, instance: str) -> list[Keyspace]:
    return [keyspace for keyspace in declared.keyspaces.keyspaces if keyspace.instance == instance]
