"""A folder of controls and an environment without machines, to ask the first about the second."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dbkeep.checks.report import Report
from dbkeep.checks.run import ask
from dbkeep.environment import Environment, Host

HEAD = "from dbkeep.checks.control import control, not_applicable\n"
MARK = '@control("{id}", "Question", severity="high", sources=("a source",), fix="do this")\n'


def new_host(name: str, *groups: str) -> Host:
    return Host(name, "198.18.255.1", "ops", 22, None, (), frozenset(groups), {})


@dataclass
class Controls:
    """Control files below a temporary checks/ folder, and the environment they are asked about."""

    folder: Path
    environment_folder: Path
    hosts: tuple[Host, ...] = ()
    secrets: dict[str, Any] = field(default_factory=dict)

    def add(self, path: str, body: str, *, control: str | None = None) -> None:
        """Write a control file; with `control` its body is marked with that id."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        mark = MARK.format(id=control) if control else ""
        file.write_text(HEAD + mark + textwrap.dedent(body), encoding="utf-8")

    def waive(self, text: str) -> None:
        (self.environment_folder / "waivers.yml").write_text(textwrap.dedent(text), encoding="utf-8")

    def ask(self, **selection: Any) -> Report:
        environment = Environment("test", self.environment_folder, self.hosts, {}, self.secrets)
        return ask(environment, self.folder, **selection)


@pytest.fixture
def controls(tmp_path: Path) -> Controls:
    folder, environment = tmp_path / "checks", tmp_path / "inventory"
    folder.mkdir()
    environment.mkdir()
    shutil.copyfile(Path(__file__).parents[3] / "checks/pytest.ini", folder / "pytest.ini")
    return Controls(folder, environment)


@pytest.fixture
def host() -> Callable[..., Host]:
    return new_host
