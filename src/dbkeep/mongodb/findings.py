"""What only the server can say of a change before it is made: what breaks it, and what the server would not accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Offenders:
    """Documents that stand in the way: how many, and the _id of a few.

    `unknown` is why nothing is known, when the search did not end in its time or failed on a document.
    """

    count: int = 0
    examples: tuple[str, ...] = ()
    unknown: str | None = None

    def __bool__(self) -> bool:
        return bool(self.count) or self.unknown is not None

    def describe(self, one: str, many: str) -> str:
        """Return what was found, with `one` or `many` for what it says of them ("breaks it", "break it")."""
        if self.unknown is not None:
            return f"whether documents {many} is not known: {self.unknown}"
        found = f"1 document {one}" if self.count == 1 else f"{self.count} documents {many}"
        return f"{found}, for example _id {', '.join(self.examples)}"


@dataclass(frozen=True, slots=True)
class Findings:
    """`violations` break the declared validator of a collection, `breaking` the one that holds now (if asked for).

    `duplicates` break a unique index and `expiring` are TTL indexes that would remove documents at once, both by
    (collection, index). `rejected` is why the server would not take something, by (kind, name).
    """

    violations: Mapping[str, Offenders] = field(default_factory=dict)
    breaking: Mapping[str, Offenders] = field(default_factory=dict)
    duplicates: Mapping[tuple[str, str], Offenders] = field(default_factory=dict)
    expiring: frozenset[tuple[str, str]] = frozenset()
    rejected: Mapping[tuple[str, str], str] = field(default_factory=dict)
