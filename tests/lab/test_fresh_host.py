"""Check mode on a host that has nothing yet: it says what it would do, fails at nothing and does nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbkeep.bundle import build_bundle
from dbkeep.lab.inventory import APT_CACHE, write_inventory
from dbkeep.lab.lab import Lab, define_lab, prepare, raise_lab
from dbkeep.lab.mongodb_package import build as build_mongodb_package
from dbkeep.up import PYTHON

from .conftest import dbkeep
from .test_drift import playbook

NAME = "fresh"


@pytest.fixture
def fresh() -> Iterator[Lab]:
    if dbkeep("lab", "status", "--json").out.count(f'"{NAME}"'):
        assert dbkeep("down", "--purge", "--name", NAME).status == 0
    try:
        lab = define_lab(NAME, hosts=1, release="bookworm")
        prepare(lab)
        build_mongodb_package(APT_CACHE)
        build_bundle(PYTHON["bookworm"])
        raise_lab(lab)
        write_inventory(lab)
        yield lab
    finally:
        assert dbkeep("down", "--purge", "--name", NAME).status == 0


def test_check_mode_of_a_fresh_host_fails_at_nothing_and_changes_nothing(fresh: Lab) -> None:
    before = dbkeep(
        "lab", "exec", f"{NAME}-1", "dpkg-query -W | sha256sum; sudo find /etc /opt -type f | sort | sha256sum"
    )
    done = playbook(NAME, "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert "failed=0" in done.stdout
    changed = int(done.stdout.rsplit("changed=", 1)[1].split()[0])
    assert changed > 20, done.stdout
    after = dbkeep(
        "lab", "exec", f"{NAME}-1", "dpkg-query -W | sha256sum; sudo find /etc /opt -type f | sort | sha256sum"
    )
    assert after.out == before.out
    assert fresh.name == NAME
