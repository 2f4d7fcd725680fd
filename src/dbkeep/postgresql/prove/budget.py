"""The leak budget: what a role may learn although its rows are hidden, each with the reason why that is accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from dbkeep.declared import Model, line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError
from dbkeep.postgresql.models import Context, Declared, Name
from dbkeep.postgresql.prove.probe import Finding, Probe, Result

FILE = Path("sql/leak_budget.yml")
Sentence = Annotated[str, Field(min_length=20)]


class Leak(Model):
    """What `roles` learn, as `probe` observes it, and why that is accepted. A `measured` one is not seen every time.

    One of a `context` is accepted only where the application's context is of that kind.
    """

    probe: Annotated[str, Field(pattern=r"^P\d\d$")]
    roles: Annotated[tuple[Name, ...], Field(min_length=1)]
    what: Sentence
    why: Sentence
    measured: bool = False
    context: Context | None = None


class Budget(Model):
    leaks: dict[Name, Leak] = Field(default={})

    def covers(self, finding: Finding) -> bool:
        """Return whether the leak that `finding` names is accepted of that role, as that probe observes it."""
        leak = self.leaks.get(finding.leak)
        return leak is not None and leak.probe == finding.probe and finding.role in leak.roles

    def beyond(self, result: Result) -> tuple[Finding, ...]:
        """Return the findings of `result` that the budget does not cover."""
        return tuple(finding for finding in result.findings if not self.covers(finding))

    def failed(self, result: Result) -> bool:
        """Return whether `result` holds a finding beyond the budget, or could not be had."""
        return result.problem is not None or bool(self.beyond(result))

    def unused(self, results: Iterable[Result]) -> tuple[Unused, ...]:
        """Return the accepted leaks that the probes of `results` looked for and did not observe."""
        told = [result for result in results if result.problem is None]
        asked = {result.probe.id for result in told}
        observed = {(finding.leak, finding.role) for result in told for finding in result.findings}
        return tuple(
            Unused(name, role)
            for name, leak in self.leaks.items()
            for role in leak.roles
            if leak.probe in asked and (name, role) not in observed and not leak.measured
        )


@dataclass(frozen=True, slots=True)
class Unused:
    """An accepted leak that is not there any more: the budget must shrink with it."""

    leak: str
    role: str

    def __str__(self) -> str:
        return f"{FILE}: {self.leak}: {self.role} does not leak this any more: take it out of the budget"


def read(root: Path, declared: Declared, probes: Sequence[Probe]) -> Budget:
    """Return the leak budget under `root`.

    Raises DeclaredError with file, line and key of the first thing that is wrong, or names no declared role or probe.
    """
    path = root / FILE
    budget = read_model(path, Budget)
    _, lines = read_yaml(path)
    known = {probe.id for probe in probes}
    for name, leak in budget.leaks.items():
        at = ("leaks", name)
        unknown = [role for role in leak.roles if role not in declared.roles]
        if unknown:
            where = line_of(lines, (*at, "roles", leak.roles.index(unknown[0])))
            raise DeclaredError(
                f"role {unknown[0]} is not declared in sql/roles.yml", path=path, line=where, key=f"leaks.{name}.roles"
            )
        if leak.probe not in known:
            raise DeclaredError(
                f"there is no probe {leak.probe}", path=path, line=line_of(lines, (*at, "probe")),
                key=f"leaks.{name}.probe",
            )  # fmt: skip
    return Budget(
        leaks={name: leak for name, leak in budget.leaks.items() if leak.context in (None, declared.scope.context)}
    )
