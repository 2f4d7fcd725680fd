"""A mutant: one way to break servers that are as declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Command = tuple[str, ...]
"""An instance, then the words. A word that begins with = stands for a user's password."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`settings` (by instance and directive) are there from the start, `commands` are the administrator's after it."""

    name: str
    kind: str
    commands: tuple[Command, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    about: frozenset[str] = frozenset()

    @property
    def shown(self) -> list[str]:
        settings = [
            f"{instance}: {name} {value or '(empty)'}"
            for instance, changed in self.settings.items()
            for name, value in changed.items()
        ]
        return [*settings, *(f"{instance}: {' '.join(words)}" for instance, *words in self.commands)]
