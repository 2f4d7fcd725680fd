"""Stores of a real host: copies by S3 with object lock and in a mounted folder, drilled, and a lock that lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbkeep.lab.lab import define_lab
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server

from . import breakages
from .breakages import Breakage
from .breakages.stores import BUCKET
from .breakages.stores import FOLDER as MOUNT
from .conftest import dbkeep
from .declared_stores import bucket, declare

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("locking")]

NAME = "stores"
CONTROLS = ("BK-07", "BK-08", "BK-09")
FOLDER = {"name": "nas", "type": "directory", "path": MOUNT, "off_host": True}


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    """A provisioned host with another filesystem where a mounted disk would be; gives this machine's address to it."""
    try:
        done = dbkeep("up", "--name", NAME, "--json", timeout=1500)
        assert done.status == 0, done.err
        run(f"sudo mkdir -p {MOUNT} && sudo mount -t tmpfs -o size=256m tmpfs {MOUNT}")
        yield str(define_lab(NAME, hosts=1, release="bookworm").gateway)
    finally:
        assert dbkeep("down", "--purge", "--name", NAME).status == 0


@pytest.fixture(scope="module")
def locking(gateway: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3.locking(tmp_path_factory.mktemp("locking"), address=gateway) as server:
        declare(NAME, [bucket(server, BUCKET), FOLDER])
        yield server


def run(command: str) -> str:
    done = dbkeep("lab", "exec", f"{NAME}-1", command)
    assert done.status == 0, f"{command}: {done.out}{done.err}"
    return done.out


def results(report: Path, *controls: str) -> dict[str, str]:
    dbkeep("check", "-e", NAME, *controls, "--json", str(report))
    found = json.loads(report.read_text(encoding="utf-8"))["results"]
    return {result["control"]: f"{result['state']}: {result['message']}" for result in found}


def test_both_stores_are_prepared_and_proved() -> None:
    prepared = dbkeep("backup", "stores", "-e", NAME, "--prepare", "--json")
    assert prepared.status == 0, prepared.out + prepared.err
    rows = {row["name"]: row for row in prepared.json["stores"]}
    assert rows["offsite"]["prepared"] == ["made the bucket, with versions, object lock and a lifecycle"]
    assert (rows["offsite"]["locked"], rows["nas"]["locked"]) == (True, False)
    again = dbkeep("backup", "stores", "-e", NAME, "--json")
    assert again.status == 0, again.err
    assert [row["faults"] for row in again.json["stores"]] == [[], []]


def test_the_timers_run_copies_to_both_and_each_copy_drills(tmp_path: Path) -> None:
    run("sudo systemctl start dbkeep-backup.service")
    listed = dbkeep("backup", "list", "-e", NAME, "--json")
    assert listed.status == 0, listed.out + listed.err
    newest = listed.json["sets"][-1]
    assert (newest["complete"], newest["copies"]) == (True, ["nas", "offsite"])
    copied = dbkeep("backup", "copy", "-e", NAME, "--json")
    assert copied.status == 0, copied.err
    assert copied.json == {"copied": []}
    for store in ("offsite", "nas"):
        drilled = dbkeep("drill", "-e", NAME, "--store", store, "--json")
        assert drilled.status == 0, drilled.out + drilled.err
        assert (drilled.json["store"], drilled.json["set_id"]) == (store, newest["set_id"])
    found = results(tmp_path / "check.json", *CONTROLS)
    assert found == dict.fromkeys(CONTROLS, "pass: ")


@pytest.mark.parametrize("breakage", breakages.STORES, ids=lambda breakage: "-and-".join(breakage.controls))
def test_its_controls_notice_a_broken_store_and_are_clean_after_the_repair(breakage: Breakage, tmp_path: Path) -> None:
    run(breakage.command)
    try:
        broken = results(tmp_path / "broken.json", *CONTROLS)
    finally:
        run(breakage.repair or "false")
    assert {name for name, state in broken.items() if state.startswith("fail: ")} == set(breakage.controls), broken
    assert results(tmp_path / "repaired.json", *CONTROLS) == dict.fromkeys(CONTROLS, "pass: ")


def test_a_store_that_ignores_locks_fails_its_control(gateway: str, tmp_path: Path) -> None:
    (tmp_path / "plain/data/copies").mkdir(parents=True)
    with s3.plain(tmp_path / "plain", address=gateway) as server:
        # It refuses the headers of checksums, and takes those of locks without keeping them.
        declare(NAME, [{**bucket(server, "liar"), "checksums": False}, FOLDER])
        proved = dbkeep("backup", "stores", "-e", NAME, "--json")
        assert proved.status == 1, proved.err
        found = results(tmp_path / "check.json", "BK-08")
    assert found["BK-08"].startswith("fail: liar: "), found
    assert "liar: a version that is locked could be deleted" in found["BK-08"]
