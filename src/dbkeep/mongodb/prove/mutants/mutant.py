"""A mutant: one way to break a server that is as declared, and what it is derived from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbkeep.mongodb import statements
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.models import Declared
from dbkeep.mongodb.prove.privileges import Target, actions, declared_privileges
from dbkeep.mongodb.prove.server import Startup
from dbkeep.mongodb.statements import Command


@dataclass(frozen=True, slots=True)
class Mutant:
    """`commands` break the server and `undo` mends it; with a `startup` it is started in another way instead.

    `about` are the users, roles, collections, indexes and paths of fields that it is about: what is tried first.
    """

    name: str
    kind: str
    commands: tuple[Command, ...] = ()
    undo: tuple[Command, ...] = ()
    startup: Startup | None = None
    about: frozenset[str] = frozenset()

    @property
    def shown(self) -> list[str]:
        if self.startup is None:
            return statements.show(self.commands).splitlines()
        options = [f"{name} {'left out' if value is None else value}" for name, value in self.startup.options.items()]
        return options + [f"--setParameter {name}={value}" for name, value in self.startup.parameters.items()]


@dataclass(frozen=True, slots=True)
class Ground:
    """The declared state, what built-in roles bring, and the passwords that the server was given."""

    declared: Declared
    built_in: Mapping[str, Sequence[Document]]
    passwords: Mapping[str, str]

    @property
    def database(self) -> str:
        return self.declared.database

    def has(self, user: str, action: str, target: Target) -> bool:
        """Return whether a user is declared to have an action on a target."""
        return action in actions(declared_privileges(self.declared, user, self.built_in), target)
