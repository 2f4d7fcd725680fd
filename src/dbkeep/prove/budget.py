"""The leak budget: what a role may learn although it is hidden, each with the reason why that is accepted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dbkeep.declared import Model, line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError
from dbkeep.prove.probe import Finding, Probe, Result

Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
Sentence = Annotated[str, Field(min_length=20)]


class Leak(Model):
    """What `roles` learn, as `probe` observes it, and why that is accepted. A `measured` one is not seen every time."""

    probe: Annotated[str, Field(pattern=r"^[A-Z]\d\d$")]
    roles: Annotated[tuple[Name, ...], Field(min_length=1)]
    what: Sentence
    why: Sentence
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """`file` is where the leaks are declared, as messages name it."""

    file: Path
    leaks: Mapping[str, Leak]

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
            Unused(self.file, name, role)
            for name, leak in self.leaks.items()
            for role in leak.roles
            if leak.probe in asked and (name, role) not in observed and not leak.measured
        )


@dataclass(frozen=True, slots=True)
class Unused:
    """An accepted leak that is not there any more: the budget must shrink with it."""

    file: Path
    leak: str
    role: str

    def __str__(self) -> str:
        return f"{self.file}: {self.leak}: {self.role} does not leak this any more: take it out of the budget"


class Leaks(Model):
    """A file of leaks; an engine whose leaks say more has a model of its own."""

    leaks: Mapping[Name, Leak] = Field(default={})


def read(
    root: Path,
    file: Path,
    *,
    model: type[Leaks],
    roles: Collection[str],
    declared_in: str,
    probes: Sequence[Probe[Any]],
) -> Budget:
    """Return the leak budget that `file` under `root` declares, read as `model`.

    `roles` are the declared ones, and `declared_in` is where. Raises DeclaredError with file, line and key of the first
    thing that is wrong, or names no declared role or probe.
    """
    path = root / file
    leaks = read_model(path, model).leaks
    _, lines = read_yaml(path)
    known = {probe.id for probe in probes}
    for name, leak in leaks.items():
        at = ("leaks", name)
        unknown = [role for role in leak.roles if role not in roles]
        if unknown:
            where = line_of(lines, (*at, "roles", leak.roles.index(unknown[0])))
            raise DeclaredError(
                f"role {unknown[0]} is not declared in {declared_in}", path=path, line=where, key=f"leaks.{name}.roles"
            )
        if leak.probe not in known:
            raise DeclaredError(
                f"there is no probe {leak.probe}", path=path, line=line_of(lines, (*at, "probe")),
                key=f"leaks.{name}.probe",
            )  # fmt: skip
    return Budget(file, leaks)
