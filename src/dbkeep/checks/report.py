"""The result of a check run as one versioned document: the evidence, and what every renderer reads."""

from __future__ import annotations

import datetime
import socket
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dbkeep import evidence
from dbkeep.checks.control import AREAS, Severity, State
from dbkeep.errors import UsageError
from dbkeep.files import write_atomically


class Result(BaseModel):
    """One control on one host. `message` says what is wrong, or why the state is what it is."""

    model_config = ConfigDict(extra="forbid")

    control: str
    title: str
    area: str
    severity: Severity
    sources: tuple[str, ...]
    host: str
    state: State
    message: str = ""
    fix: str = ""
    observed: dict[str, Any] = Field(default_factory=dict)
    waiver: dict[str, str] | None = None
    seconds: float = 0.0


class Report(BaseModel):
    """A check run: who ran it, when, against which versions, and every result with what was observed."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_name: Literal["dbkeep.check/1"] = Field(default="dbkeep.check/1", alias="schema")
    environment: str
    by: str
    started_at: datetime.datetime
    finished_at: datetime.datetime
    versions: dict[str, dict[str, str]]
    summary: dict[str, int]
    results: tuple[Result, ...]

    def with_state(self, *states: State) -> list[Result]:
        return [result for result in self.results if result.state in states]

    @property
    def exit_code(self) -> int:
        """0 without findings, 1 with findings, 2 when a control could not be answered."""
        if self.with_state(State.ERROR):
            return 2
        return 1 if self.with_state(State.FAIL) else 0

    def as_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


def make_report(
    environment: str, started_at: datetime.datetime, results: list[Result], versions: dict[str, dict[str, str]]
) -> Report:
    counted = Counter(result.state for result in results)
    return Report(
        environment=environment,
        by=f"{evidence.person()}@{socket.gethostname()}",
        started_at=started_at,
        finished_at=datetime.datetime.now(datetime.UTC),
        versions={"controller": {"dbkeep": version("dbkeep"), "pytest": version("pytest")}, **versions},
        summary={"controls": len({r.control for r in results}), **{state.value: counted[state] for state in State}},
        results=tuple(sorted(results, key=lambda r: (list(AREAS).index(r.area), r.control, r.host))),
    )


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by the owner only, whole or not at all; raises UsageError when it cannot."""
    _write(path, text, 0o600)


def write_shared(path: Path, text: str) -> None:
    """Write `text` to `path` as `write_private` does, readable by everyone: by whoever collects metrics."""
    _write(path, text, 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    try:
        write_atomically(path, text, mode=mode)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
