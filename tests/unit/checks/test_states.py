"""What a control's outcome becomes: pass, fail, error, not applicable; and what makes a run's exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.checks.conftest import Controls

from dbkeep.checks.control import State
from dbkeep.up import first_finding


def only_state(controls: Controls) -> tuple[State, str, int]:
    report = controls.ask()
    (result,) = report.results
    return result.state, result.message, report.exit_code


def test_a_control_that_observed_and_asserted_nothing_wrong_passes(controls: Controls) -> None:
    controls.add("environment/a.py", "def test_a(observe):\n    observe(seen=1)\n", control="A-1")
    report = controls.ask()
    (result,) = report.results
    assert (result.state, result.observed, result.host) == (State.PASS, {"seen": 1}, "controller")
    assert report.exit_code == 0
    assert report.summary["pass"] == 1


def test_a_false_assertion_is_a_finding_with_its_message_and_fix(controls: Controls) -> None:
    controls.add(
        "environment/a.py", "def test_a(observe):\n    observe(x=2)\n    assert 1 == 2, 'x is two'\n", control="A-1"
    )
    report = controls.ask()
    (result,) = report.results
    assert (result.state, result.message, result.fix, result.observed) == (State.FAIL, "x is two", "do this", {"x": 2})
    assert report.exit_code == 1


def test_up_names_the_first_finding_of_a_report(controls: Controls, tmp_path: Path) -> None:
    report = tmp_path / "check.json"
    assert first_finding(report) == ""
    controls.add("environment/a.py", "def test_a(observe):\n    observe(x=1)\n", control="A-1")
    report.write_text(controls.ask().as_json(), encoding="utf-8")
    assert first_finding(report) == ""
    body = "def test_b(observe):\n    observe(x=2)\n    assert 1 == 2, 'x is two'\n"
    controls.add("environment/b.py", body, control="B-1")
    report.write_text(controls.ask().as_json(), encoding="utf-8")
    assert first_finding(report) == "B-1 on controller: x is two"


def test_a_control_that_recorded_nothing_is_an_error_not_a_pass(controls: Controls) -> None:
    controls.add("environment/a.py", "def test_a():\n    pass\n", control="A-1")
    assert only_state(controls) == (State.ERROR, "the control recorded nothing that it observed", 2)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def test_a():\n    1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def test_a(no_such_fixture):\n    pass\n", "FixtureLookupError: ('no_such_fixture'"),
        (
            "from dbkeep.errors import UsageError\ndef test_a():\n    raise UsageError('db1: no answer; start it')\n",
            "db1: no answer; start it",
        ),
        ("import warnings\ndef test_a(observe):\n    warnings.warn('old')\n", "UserWarning: old"),
    ],
)
def test_whatever_else_goes_wrong_is_an_error_in_one_line(controls: Controls, body: str, message: str) -> None:
    controls.add("environment/a.py", "pass\n")
    head, _, tail = body.rpartition("def test_a")
    file = controls.folder / "environment/a.py"
    mark = '@control("A-1", "Question", severity="low", sources=("s",), fix="f")\n'
    file.write_text(f"from dbkeep.checks.control import control\n{head}{mark}def test_a{tail}", encoding="utf-8")
    state, said, exit_code = only_state(controls)
    assert (state, exit_code) == (State.ERROR, 2)
    assert message in said
    assert "\n" not in said


def test_not_applicable_carries_the_observed_reason_and_is_clean(controls: Controls) -> None:
    controls.add("environment/a.py", "def test_a():\n    not_applicable('a container has no clock')\n", control="A-1")
    assert only_state(controls) == (State.NOT_APPLICABLE, "a container has no clock", 0)


def test_evidence_of_any_type_is_kept_as_text(controls: Controls) -> None:
    controls.add(
        "environment/a.py",
        "def test_a(observe):\n    observe(day=__import__('datetime').date(2026, 11, 22))\n",
        control="A-1",
    )
    (result,) = controls.ask().results
    assert result.observed == {"day": "2026-11-22"}


def test_evidence_never_holds_a_secret(controls: Controls) -> None:
    controls.secrets = {"postgresql": {"app_api": "correct-horse-battery-staple"}}
    controls.add(
        "environment/a.py",
        "def test_a(observe):\n    observe(url='postgresql://app_api:correct-horse-battery-staple@db')\n",
        control="A-1",
    )
    controls.add(
        "environment/b.py",
        "def test_b(observe):\n    observe(x=1)\n    assert False, 'logged on with correct-horse-battery-staple'\n",
        control="A-2",
    )
    report = controls.ask()
    assert "battery" not in report.as_json()
    assert [result.state for result in report.results] == [State.ERROR, State.FAIL]
