"""The lab's decisions that need no host: names, subnets, groups, children."""

import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dbkeep.child import contained
from dbkeep.errors import UsageError
from dbkeep.lab.inventory import present_groups
from dbkeep.lab.network import BLOCK, free_subnet
from dbkeep.lab.paths import check_name, locked


@pytest.mark.parametrize("name", ["lab", "t1", "a" * 11])
def test_a_name_that_fits_an_interface_is_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "../etc", "a" * 12, "a b"])
def test_a_name_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name for a lab"):
        check_name(name)


def test_a_free_subnet_overlaps_nothing_that_is_taken() -> None:
    first = free_subnet([])
    second = free_subnet([first])
    assert first.subnet_of(BLOCK)
    assert second.subnet_of(BLOCK)
    assert not first.overlaps(second)


def test_a_full_block_is_said() -> None:
    with pytest.raises(UsageError, match="no subnet"):
        free_subnet([ipaddress.IPv4Network("198.18.0.0/15")])


def test_an_inventory_that_is_there_keeps_its_groups(tmp_path: Path) -> None:
    assert present_groups(tmp_path, {"a"}) == {}
    text = "all: {hosts: {a: {}, b: {}}, children: {mongodb: {hosts: {b: null, a: null}}, redis: {hosts: {}}}}"
    (tmp_path / "hosts.yml").write_text(text, encoding="utf-8")
    assert present_groups(tmp_path, {"a", "c"}) == {"mongodb": ["b", "a"], "redis": []}
    # What `dbkeep init` copied from the example is another's.
    assert present_groups(tmp_path, {"c"}) == {}


def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lab.lock"
    with (
        locked(path, "busy"),
        pytest.raises(UsageError, match=rf"busy \(process {os.getpid()}\)"),
        locked(path, "busy"),
    ):
        pass
    with locked(path, "busy"):
        pass


def test_a_contained_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    loop = f"while :; do date +%s%N > {mark}; sleep 0.05; done"
    command = contained(["sh", "-c", f"({loop}) & {loop}"])
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"])
    deadline = time.monotonic() + 20
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mark.exists(), "the child never ran"
    parent.kill()
    parent.wait()
    time.sleep(0.5)
    before = mark.read_text(encoding="ascii")
    time.sleep(0.5)
    assert mark.read_text(encoding="ascii") == before
