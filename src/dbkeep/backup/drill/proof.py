"""What a drill finds: assertions about a copy, and what could not be proved of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from dbkeep.backup.manifest import Count
from dbkeep.errors import DbkeepError


@dataclass(frozen=True, slots=True)
class Assertion:
    """One comparison of the copy with what is known of the source."""

    what: str
    expected: Any
    observed: Any
    holds: bool


@dataclass
class Proof:
    """What a drill of one engine found. `restored` is called when the copy first answers: that ends the RTO."""

    started: float = field(default_factory=time.monotonic)
    rto_seconds: float | None = None
    version: str = ""
    assertions: list[Assertion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def passed(self) -> bool:
        return self.error is None and all(assertion.holds for assertion in self.assertions)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep the first error of the block as the proof's own; it ends there."""
        try:
            yield
        except DbkeepError as error:
            self.error = self.error or str(error)
        except OSError as error:  # a full disk, most likely: the copies need as much as the set
            self.error = self.error or f"{error.filename}: {error.strerror}; look at the space left on the disk"

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "error": self.error,
            "assertions": [asdict(assertion) for assertion in self.assertions],
            "unproved": self.notes,
        }

    def restored(self, version: str) -> None:
        self.rto_seconds = round(time.monotonic() - self.started, 3)
        self.version = version

    def equal(self, what: str, expected: Any, observed: Any) -> None:
        self.assertions.append(Assertion(what, expected, observed, expected == observed))

    def that(self, what: str, expected: Any, observed: Any, holds: bool) -> None:
        self.assertions.append(Assertion(what, expected, observed, holds))

    def unproved(self, why: str) -> None:
        self.notes.append(why)

    def counts(self, unit: str, expected: dict[str, Count], observed: dict[str, int]) -> None:
        """Assert that every name of the manifest has its count on the copy, and that there is no other name."""
        for name, count in expected.items():
            found = observed.get(name, 0)
            self.that(f"{unit} of {name}", str(count), found, count.holds(found))
        self.equal(f"nothing beside the manifest's {unit}", [], sorted(observed.keys() - expected.keys()))

    def digests(self, unit: str, expected: dict[str, str], observed: dict[str, str]) -> None:
        """Assert that what has a digest in the manifest has the same one on the copy."""
        for name, digest in expected.items():
            self.equal(f"digest of the {unit} of {name}", digest, observed.get(name))
