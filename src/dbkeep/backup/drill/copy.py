"""A drill's copies: what they are started with, how they are reached, and how they are attacked as every role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from dbkeep.backup.drill.claims import Claimed
from dbkeep.backup.drill.proof import Proof
from dbkeep.engines import engine
from dbkeep.errors import DbkeepError
from dbkeep.plan import Plan
from dbkeep.prove.probe import Probe, World, run
from dbkeep.sandbox.authority import Authority
from dbkeep.secrets import new_password

MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Serving:
    """What the copy of one engine is served with: a folder, certificates of the drill, and what is claimed of it.

    `passwords` are new ones: those of the live servers open no copy, and the other way round. `strict` says that the
    set is the newest one, so that it must be as declared; an older one may be from before a change of what is declared.
    """

    folder: Path
    authority: Authority
    claimed: Claimed | None = None
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    context_key: str = field(default_factory=new_password, repr=False)
    strict: bool = True


def serving(name: str, folder: Path, authority: Authority, claimed: Claimed | None, *, strict: bool) -> Serving:
    """Return how the copy of the engine `name` is served."""
    users = engine(name).users(claimed.declared) if claimed else []
    return Serving(folder, authority, claimed, {user: new_password() for user in users}, strict=strict)


@dataclass(frozen=True, slots=True)
class Copy:
    """A running copy: `settings` reach it as its administrator, `ports` are where TLS is spoken on 127.0.0.1."""

    settings: Any
    ports: dict[str, int]
    serving: Serving


def differs(plan: Plan, proof: Proof, *, strict: bool) -> bool:
    """Note how the copy differs from what is declared, and return whether it does. It is a failure when `strict`."""
    found = [f"{change.kind} {change.target}: {change.summary}" for change in plan]
    shown = [*found[:MOST_NAMED], *([f"and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else [])]
    if strict or not found:
        proof.equal("what differs from the declared state", [], shown)
    else:
        proof.unproved(f"rights were not attacked: the set is older than what is declared now ({'; '.join(shown)})")
    return bool(found)


def attack(name: str, world: World, claimed: Claimed, proof: Proof, *, leave_out: Sequence[str] = ()) -> None:
    """Try every right of every role on the copy, and ask every probe that may run where real data lies.

    Probes of the areas `leave_out` are about what no backup holds. Raises DbkeepError when the copy does not answer.
    """
    matrix = import_module(f"dbkeep.{name}.prove.matrix")
    try:
        cells = list(matrix.observe(world))
    except world.errors as error:
        raise DbkeepError(f"{name}: the copy cannot be attacked: {world.describe(error)}") from None
    tried = sum(cell.is_tried for cell in cells)
    proof.that("rights of roles that were tried", "1 or more", tried, tried > 0)
    wrong = [str(finding) for finding in matrix.findings(cells)]
    proof.equal("rights that are not as declared", [], wrong[:MOST_NAMED])
    probes: Sequence[Probe[Any]] = import_module(f"dbkeep.{name}.prove.registry").ALL
    asked = [probe for probe in probes if probe.live and probe.area not in leave_out]
    for result in run(world, asked):
        findings = [str(finding) for finding in claimed.budget.beyond(result)]
        observed = result.problem or findings[:MOST_NAMED]
        proof.that(f"{result.probe.id} {result.probe.title}", [], observed, not claimed.budget.failed(result))
