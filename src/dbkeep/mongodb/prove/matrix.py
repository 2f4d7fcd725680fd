"""The matrix user x target x action: what is declared, what is granted, and what happens when the user tries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.prove.privileges import ADMINISTRATION, Target, actions, named
from dbkeep.mongodb.prove.trials import COLLECTION, DATABASE, NOBODY, Trial, trials
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import Finding

LEGEND = """the actions that are declared, granted and possible alike; else declared / granted / possible;
? cannot be tried, because it would not be harmless where it is allowed"""
SERVERS_OWN = (
    Target(ADMINISTRATION, "system.users"),
    Target(ADMINISTRATION, "system.roles"),
    Target(ADMINISTRATION, "system.version"),
    Target("config", "system.sessions"),
    Target("config", "transactions"),
    Target("local", "oplog.rs"),
    Target("local", "system.replset"),
)
# A privilege on a database is one on its collections too; each action is tried where it means something.
OF_COLLECTIONS = frozenset(trial.action for trial in COLLECTION)
OF_DATABASES = frozenset(trial.action for trial in DATABASE)
ELSEWHERE = (Target(NOBODY, NOBODY), Target(NOBODY), Target(ADMINISTRATION), Target())


@dataclass(frozen=True, slots=True)
class Cell:
    """One action of one user on one target, three times; `observed` is None where it is not tried.

    `effective` is what is granted and can be used: some commands take more than one action.
    """

    role: str
    on: Target
    action: str
    declared: bool
    granted: bool
    effective: bool
    observed: bool | None

    @property
    def target(self) -> str:
        return str(self.on)

    @property
    def agrees(self) -> bool:
        return self.declared == self.granted and self.observed in {None, self.effective}

    @property
    def is_empty(self) -> bool:
        return not (self.declared or self.granted or self.observed)

    @property
    def is_tried(self) -> bool:
        return self.observed is not None

    @property
    def text(self) -> str:
        if self.agrees:
            return f"{self.action}{'' if self.is_tried else '?'}"
        return f"{self.action} {'/'.join(map(_sign, (self.declared, self.granted, self.observed)))}"

    def as_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "target": self.target,
            "action": self.action,
            "declared": self.declared,
            "granted": self.granted,
            "observed": self.observed,
        }


def _sign(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def observe(world: World, *, only_untried: bool = False) -> Iterator[Cell]:
    """Try every action of every declared user on every target, and yield what was found.

    With `only_untried` nothing is tried, and only those cells are yielded of which that can be said anyway.
    """
    enforced = world.attempt(None, world.database, {"listCollections": 1}).is_denied
    for user in world.users:
        declared, granted = world.declared_privileges(user), world.granted_privileges(user)
        for target in _targets(world, [*named(declared), *named(granted)]):
            wanted, have = actions(declared, target), actions(granted, target)
            tried = {trial.action: trial for trial in trials(target)}
            elsewhere = OF_DATABASES if target.collection else OF_COLLECTIONS
            for action in (*tried, *sorted((wanted | have) - tried.keys() - elsewhere)):
                trial = tried.get(action)
                effective = trial is not None and action in have and trial.needs <= have
                # What is not harmless is tried only where a server that asks for rights says that it is not granted.
                is_safe = trial is not None and (trial.harmless or (enforced and action not in have))
                if is_safe and only_untried:
                    continue
                observed = _observed(world, user, target, trial) if trial is not None and is_safe else None
                yield Cell(user, target, action, action in wanted, action in have, effective, observed)


def findings(cells: Sequence[Cell]) -> Iterator[Finding]:
    """Yield every disagreement between what is declared, granted and observed."""
    for cell in cells:
        if cell.agrees:
            continue
        parts = []
        if cell.declared != cell.granted:
            parts.append("granted, not declared" if cell.granted else "declared, not granted")
        if cell.observed not in {None, cell.effective}:
            parts.append("possible, not granted" if cell.observed else "granted, not possible")
        yield Finding(cell.role, f"{cell.action} {cell.on}", "; ".join(parts))


def _targets(world: World, more: Sequence[Target]) -> list[Target]:
    own = [*world.names, RECORDS, NOBODY, "system.views", "system.profile", "system.js"]
    ours = [Target(world.database, name) for name in own] + [Target(world.database)]
    in_databases = [Target(target.database, NOBODY) for target in more]
    targets = dict.fromkeys((*ours, *SERVERS_OWN, *ELSEWHERE, *more, *in_databases))
    return sorted(targets, key=lambda target: target.collection not in world.first)


def _observed(world: World, user: str, target: Target, trial: Trial) -> bool:
    tried = world.attempt(user, trial.database(target), trial.command(target))
    return not tried.is_denied
