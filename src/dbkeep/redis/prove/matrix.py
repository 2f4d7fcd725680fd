"""The matrix user x command x kind of key: what is declared, what the server grants, and what happens on trying.

Granted is what ACL DRYRUN answers. The commands of one kind (those that read, that write, ...) stand in one cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from dbkeep.prove.probe import Finding
from dbkeep.redis.declared import ADMIN
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.attempts import attempt, attempt_all
from dbkeep.redis.prove.commands import CHANGES_CONNECTION, Command
from dbkeep.redis.prove.reach import Target
from dbkeep.redis.prove.world import World

LEGEND = "declared / granted (ACL DRYRUN) / observed, each a number of commands; the table of commands is the server's"

KINDS = RUN, LOOK, READ, WRITE, BOTH = "run", "look", "read", "write", "read and write"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one user may do on one target by commands of one kind; `tried` are those that were attempted for real."""

    role: str
    target: str
    action: str
    commands: frozenset[str]
    declared: frozenset[str]
    granted: frozenset[str]
    tried: frozenset[str]
    observed: frozenset[str]

    @property
    def agrees(self) -> bool:
        return self.declared == self.granted and self.observed == self.granted & self.tried

    @property
    def is_empty(self) -> bool:
        return not (self.declared or self.granted or self.observed)

    @property
    def is_tried(self) -> bool:
        return bool(self.tried) or not self.commands

    @property
    def text(self) -> str:
        observed = str(len(self.observed)) if self.tried >= self.granted and self.tried else "?"
        return f"{len(self.declared)}/{len(self.granted)}/{observed}"

    def as_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "target": self.target,
            "action": self.action,
            "commands": len(self.commands),
            "declared": sorted(self.declared),
            "granted": sorted(self.granted),
            "tried": len(self.tried),
            "observed": sorted(self.observed),
        }


def observe(world: World) -> Iterator[Cell]:
    """Try every command of every instance on every kind of key as every declared user, and yield what was found."""
    for instance in sorted(world.instances, key=lambda name: name not in world.first):
        for user in (*world.users(instance), ADMIN):
            for target in reach.targets(world.declared, instance):
                yield from _cells(world, instance, user, target)


def findings(cells: Sequence[Cell]) -> Iterator[Finding]:
    """Yield every disagreement between what is declared, granted and observed."""
    for cell in cells:
        parts = [
            _difference("granted, not declared", cell.granted - cell.declared),
            _difference("declared, not granted", cell.declared - cell.granted),
            _difference("possible, not granted", cell.observed - cell.granted),
            _difference("granted, not possible", (cell.granted & cell.tried) - cell.observed),
        ]
        if not cell.agrees:
            words = "; ".join(part for part in parts if part)
            yield Finding(cell.role, f"{cell.action} {cell.target}", words)


def _difference(words: str, commands: frozenset[str]) -> str:
    return f"{words}: {', '.join(sorted(commands))}" if commands else ""


def _cells(world: World, instance: str, user: str, target: Target) -> Iterator[Cell]:
    fitting = [command for command in world.commands(instance) if target.fits(command)]
    granted = _granted(world.auditor(instance), user, target, fitting)
    for kind in KINDS:
        commands = [command for command in fitting if _kind(command) == kind]
        names = frozenset(command.name for command in commands)
        declared = frozenset(c.name for c in commands if reach.allows(world.declared, user, instance, c, target))
        tried = [c for c in commands if _may_be_tried(world, user, c, declared=c.name in declared)]
        yield Cell(
            user, f"{instance} {target.name}", kind, names, declared, granted & names,
            frozenset(command.name for command in tried), _observed(world, instance, user, target, tried),
        )  # fmt: skip


def _kind(command: Command) -> str:
    """Return one of KINDS."""
    if not command.has_keys:
        return RUN
    return {(True, True): BOTH, (True, False): READ, (False, True): WRITE}.get((command.reads, command.writes), LOOK)


def _words(command: Command, target: Target) -> list[str]:
    """Return the command on a name of its own: what one command leaves there is another type for the next."""
    if target.channel:
        return command.words(channel=target.word)
    return command.words(f"{target.word}:{command.group}")


def _granted(auditor: redis.Redis, user: str, target: Target, commands: Sequence[Command]) -> frozenset[str]:
    answers = attempt_all(auditor, [("ACL", "DRYRUN", user, *_words(command, target)) for command in commands])
    allowed = set()
    for command, tried in zip(commands, answers, strict=True):
        if tried.answer == "OK":
            allowed.add(command.name)
        elif not (tried.denied or tried.holds("no permissions") or tried.holds("not found")):
            raise redis.ResponseError(f"ACL DRYRUN {user} {' '.join(_words(command, target))}: {tried}")
    return frozenset(allowed)


def _may_be_tried(world: World, user: str, command: Command, *, declared: bool) -> bool:
    """The administrator may do everything; on a live server only what must be refused and is harmless is tried."""
    if user == ADMIN:
        return False
    return world.is_copy or (command.is_harmless and not declared)


def _observed(world: World, instance: str, user: str, target: Target, commands: Sequence[Command]) -> frozenset[str]:
    """Send each command. It was possible unless it was denied, whatever else was wrong with it."""
    if not commands:
        return frozenset()
    client = world.session(instance, user)
    at_once = [command for command in commands if command.group not in CHANGES_CONNECTION]
    answers = attempt_all(client, [_words(command, target) for command in at_once])
    possible = {command.name for command, tried in zip(at_once, answers, strict=True) if not tried.denied}
    for command in commands:
        if command.group in CHANGES_CONNECTION and not attempt(client, *_words(command, target)).denied:
            possible.add(command.name)
            client.connection_pool.disconnect()
    return frozenset(possible)
