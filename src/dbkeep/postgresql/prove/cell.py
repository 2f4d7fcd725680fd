"""A cell of the matrix: one privilege of one role on one relation, as declared, as granted and as observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WHOLE = frozenset({"*"})
"""A privilege that is not about columns."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One privilege of one role on one relation, three times; `observed` is None where it cannot be tried.

    `effective` is what is granted and can be used: nothing is without USAGE on the schema. `rowless` tells that row
    security binds the role there and no policy is declared that lets the privilege at a row.
    """

    role: str
    relation: str
    privilege: str
    columns: tuple[str, ...]
    declared: frozenset[str]
    granted: frozenset[str]
    effective: frozenset[str]
    observed: frozenset[str] | None
    declared_policies: frozenset[str]
    live_policies: frozenset[str]
    rowless: bool

    @property
    def agrees(self) -> bool:
        same_rows = self.is_empty or self.declared_policies == self.live_policies
        return same_rows and self.declared == self.granted and self.observed in (None, self.effective)

    @property
    def is_empty(self) -> bool:
        return not (self.declared or self.granted or self.observed)

    @property
    def target(self) -> str:
        return self.relation

    @property
    def action(self) -> str:
        return self.privilege

    @property
    def is_tried(self) -> bool:
        return self.observed is not None

    @property
    def text(self) -> str:
        """The three in a short form each."""
        three = "/".join(self._shown(columns) for columns in (self.declared, self.granted, self.observed))
        return f"{three}*" if self.rowless else three

    def as_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "relation": self.relation,
            "privilege": self.privilege,
            "declared": sorted(self.declared),
            "granted": sorted(self.granted),
            "observed": None if self.observed is None else sorted(self.observed),
            "declared_policies": sorted(self.declared_policies),
            "live_policies": sorted(self.live_policies),
        }

    def _shown(self, columns: frozenset[str] | None) -> str:
        """Return a short form of one of the three: '-' for nothing, 'all', or the number of columns."""
        if columns is None:
            return "?"
        if not columns:
            return "-"
        whole = columns == WHOLE or len(columns) == len(self.columns)
        return "all" if whole else str(len(columns))
