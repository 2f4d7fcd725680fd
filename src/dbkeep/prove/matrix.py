"""The matrix of privileges: what is declared, what is granted, and what happens when the role tries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dbkeep.prove.probe import Finding


class Cell(Protocol):
    """One action of one role on one target. `is_tried` is false where it cannot be tried."""

    @property
    def role(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def agrees(self) -> bool: ...
    @property
    def is_empty(self) -> bool: ...
    @property
    def is_tried(self) -> bool: ...
    @property
    def text(self) -> str: ...
    def as_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Matrix:
    """`target` is what the targets are called, `legend` what the texts of the cells mean.

    With `in_words` the actions are too many for a column each: those that a role has on a target are named.
    """

    target: str
    legend: str
    cells: Sequence[Cell]
    disagreements: Sequence[Finding]
    in_words: bool = False
