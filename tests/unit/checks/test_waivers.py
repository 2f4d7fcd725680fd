"""Waivers: who accepts which finding until when, and what becomes of it afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.checks.conftest import Controls

from dbkeep.checks.control import State
from dbkeep.environment import Host
from dbkeep.errors import DeclaredError

FAILING = "def test_it(observe):\n    observe(seen=1)\n    assert False, 'it is open'\n"
WAIVER = """
    waivers:
      - control: A-1
        owner: Ada
        reason: closed by the next release
        expires: {date}
"""


def test_a_waived_finding_is_no_finding_and_names_its_owner(controls: Controls) -> None:
    controls.add("environment/a.py", FAILING, control="A-1")
    controls.waive(WAIVER.format(date="2999-12-31"))
    report = controls.ask()
    (result,) = report.results
    assert (result.state, report.exit_code) == (State.WAIVED, 0)
    assert result.waiver == {"owner": "Ada", "reason": "closed by the next release", "expires": "2999-12-31"}


def test_an_expired_waiver_waives_nothing(controls: Controls) -> None:
    controls.add("environment/a.py", FAILING, control="A-1")
    controls.waive(WAIVER.format(date="2020-01-31"))
    report = controls.ask()
    (result,) = report.results
    assert (result.state, report.exit_code) == (State.FAIL, 1)
    assert result.message == "it is open (the waiver of Ada expired on 2020-01-31)"


def test_a_waiver_does_not_turn_an_error_into_an_accepted_finding(controls: Controls) -> None:
    controls.add("environment/a.py", "def test_it():\n    1 / 0\n", control="A-1")
    controls.waive(WAIVER.format(date="2999-12-31"))
    assert controls.ask().exit_code == 2


def test_a_waiver_for_one_host_leaves_the_others(controls: Controls, host: Callable[..., Host]) -> None:
    controls.hosts = (host("db1", "redis"), host("db2", "redis"))
    controls.add("redis/a.py", FAILING, control="A-1")
    controls.waive(WAIVER.format(date="2999-12-31") + "        hosts: [db2]\n")
    states = {result.host: result.state for result in controls.ask().results}
    assert states == {"db1": State.FAIL, "db2": State.WAIVED}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WAIVER.format(date="2999-12-31").replace("A-1", "A-9"), "there is no control 'A-9'"),
        (WAIVER.format(date="2999-12-31") + "        hosts: [db9]\n", "the inventory has no host 'db9'"),
        (WAIVER.format(date="soon"), "waivers.yml:6: waivers.0.expires"),
        (WAIVER.format(date="2999-12-31").replace("owner: Ada", "owner: ''"), "waivers.0.owner"),
        (WAIVER.format(date="2999-12-31") + "        colour: red\n", "waivers.0.colour"),
        ("waivers: {", "waivers.yml:1: not valid YAML"),
    ],
)
def test_a_wrong_waivers_file_is_refused_with_its_place(controls: Controls, text: str, message: str) -> None:
    controls.add("environment/a.py", FAILING, control="A-1")
    controls.waive(text)
    with pytest.raises(DeclaredError) as caught:
        controls.ask()
    assert message in str(caught.value)
