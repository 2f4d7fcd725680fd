"""What is refused before anything runs, and which control is asked about which host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.checks.conftest import Controls

from dbkeep.environment import Host
from dbkeep.errors import UsageError

PASSING = "def test_it(observe):\n    observe(seen=1)\n"


def refusal(controls: Controls, **selection: object) -> str:
    with pytest.raises(UsageError) as caught:
        controls.ask(**selection)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_an_empty_folder_is_refused(controls: Controls) -> None:
    assert "no control is selected" in refusal(controls)


def test_a_selection_without_a_control_is_refused(controls: Controls) -> None:
    controls.add("environment/a.py", PASSING, control="A-1")
    assert "no control is selected by mongodb" in refusal(controls, engines=("mongodb",))


def test_an_unknown_id_is_refused_by_name(controls: Controls) -> None:
    controls.add("environment/a.py", PASSING, control="A-1")
    assert "there is no control A-2" in refusal(controls, ids=("A-1", "A-2"))


def test_a_function_without_an_id_is_refused_with_its_place(controls: Controls) -> None:
    controls.add("environment/a.py", PASSING)
    assert "environment/a.py::test_it: the function has no control id" in refusal(controls)


def test_an_id_used_twice_is_refused_with_both_places(controls: Controls) -> None:
    controls.add("environment/a.py", PASSING, control="A-1")
    controls.add("environment/b.py", PASSING, control="A-1")
    assert "environment/b.py::test_it: control A-1 exists already in environment/a.py::test_it" in refusal(controls)


def test_a_file_that_cannot_be_loaded_is_refused(controls: Controls) -> None:
    controls.add("environment/a.py", PASSING, control="A-1")
    controls.add("environment/b.py", "import no_such_module_at_all\n")
    assert "environment/b.py: cannot be loaded: ModuleNotFoundError" in refusal(controls)


@pytest.mark.parametrize(
    "mark",
    [
        '@control("", "Question", severity="low", sources=("s",), fix="f")',
        '@control("A-1", "Question", severity="low", sources=(), fix="f")',
        '@control("A-1", "Question", severity="low", sources=("s"), fix="f")',
        '@control("A-1", "Question", severity="terrible", sources=("s",), fix="f")',
    ],
)
def test_a_malformed_control_is_refused(controls: Controls, mark: str) -> None:
    controls.add("environment/a.py", f"{mark}\n{PASSING}")
    assert "environment/a.py: cannot be loaded: ValueError" in refusal(controls)


def test_a_control_is_asked_about_each_host_of_its_folder(controls: Controls, host: Callable[..., Host]) -> None:
    controls.hosts = (host("db1", "postgresql", "redis"), host("db2", "mongodb"), host("db3", "postgresql"))
    controls.add(
        "postgresql/a.py",
        PASSING.replace("seen=1", "seen=target.name").replace("(observe)", "(observe, target)"),
        control="P-1",
    )
    controls.add("host/a.py", PASSING, control="H-1")
    asked = [(result.control, result.host) for result in controls.ask().results]
    assert asked == [("H-1", "db1"), ("H-1", "db2"), ("H-1", "db3"), ("P-1", "db1"), ("P-1", "db3")]


def test_an_engine_selects_its_controls_and_those_of_isolation(controls: Controls, host: Callable[..., Host]) -> None:
    controls.hosts = (host("db1", "postgresql", "mongodb"),)
    for area in ("environment", "host", "postgresql", "isolation", "mongodb"):
        controls.add(f"{area}/a.py", PASSING, control=f"{area}-1")
    assert [r.area for r in controls.ask(engines=("postgresql",)).results] == ["postgresql", "isolation"]
    assert [r.control for r in controls.ask(ids=("mongodb-1",)).results] == ["mongodb-1"]
