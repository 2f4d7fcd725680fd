"""What takes longer than the daily run: other shapes and releases of the lab, and kills at ten moments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import dbkeep, kill_up

pytestmark = pytest.mark.long

TEN_KILLS = (
    ("Prepare this machine and the base image", 0.1),
    ("Build the packages for the hosts", 0.3),
    ("Start 1 test host", 0.7),
    ("Write the inventory and its secrets", 0.3),
    ("Provision by playbooks/site.yml", 15.0),
    ("Provision by playbooks/site.yml", 30.0),
    ("Load sample data through the API", 0.6),
    ("Take an encrypted backup of every engine", 3.0),
    ("Restore it in a drill", 2.0),
    ("Run all checks", 3.0),
)


@pytest.fixture
def name() -> Iterator[str]:
    yield "long"
    assert dbkeep("down", "--purge", "--name", "long").status == 0


@pytest.mark.parametrize("options", [("--hosts", "3"), ("--release", "trixie")], ids=["three hosts", "trixie"])
def test_up_is_green_and_quiet_when_repeated(name: str, options: tuple[str, ...]) -> None:
    first = dbkeep("up", "--name", name, *options, "--json", timeout=1500)
    assert first.status == 0, first.err
    assert first.json["checks"]["fail"] == 0
    again = dbkeep("up", "--name", name, "--json")
    assert again.status == 0, again.err
    assert {host["changed"] for host in again.json["hosts"]} == {0}


def test_up_ends_green_after_each_of_ten_kills(name: str) -> None:
    for stage, seconds in TEN_KILLS:
        killed = kill_up(name, stage, seconds)
        assert killed.reached, (stage, killed.said)
        done = dbkeep("up", "--name", name, "--json")
        assert done.status == 0, (stage, done.err)
        assert done.json["checks"]["fail"] == 0
