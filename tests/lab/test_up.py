"""`dbkeep up`: whole after any interruption, quick and quiet when repeated, clear when it cannot work."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from dbkeep.lab.lab import read_lab
from dbkeep.lab.network import bridge_name

from .conftest import UpLab, dbkeep


def test_up_ends_green_after_a_kill(lab: UpLab) -> None:
    assert lab.killed.reached, lab.killed.said
    result = lab.result
    assert set(result["provisioned"]) == {"postgresql", "mongodb", "redis"}
    assert result["backup"]["engines"] == ["mongodb", "postgresql", "redis"]
    assert result["drill"]["result"] == "passed"
    assert result["checks"]["fail"] == 0
    assert result["checks"]["pass"] >= 30


def test_a_repeated_up_changes_nothing_on_the_host(lab: UpLab) -> None:
    done = dbkeep("up", "--name", lab.name, "--json")
    assert done.status == 0, done.err
    assert [host["changed"] for host in done.json["hosts"]] == [0]
    assert done.json["sample"] == lab.result["sample"]


@pytest.mark.long
def test_up_after_down_brings_the_same_data_back(lab: UpLab) -> None:
    before = lab.counts()
    assert dbkeep("down", "--name", lab.name).status == 0
    assert "stopped" in dbkeep("status").out
    done = dbkeep("up", "--name", lab.name, "--json")
    assert done.status == 0, done.err
    kept = [name for name in before["postgresql"] if name != "chat.refresh_tokens"]
    after = lab.counts()
    assert {k: after["postgresql"][k] for k in kept} == {k: before["postgresql"][k] for k in kept}
    assert after["mongodb"] == before["mongodb"]


def test_a_second_up_at_the_same_time_says_who_holds_the_lab(lab: UpLab) -> None:
    command = ["./dbkeep", "up", "--name", lab.name]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as first:
        assert first.stderr is not None
        first.stderr.readline()
        second = dbkeep("up", "--name", lab.name)
        first.kill()
    assert second.status == 2
    expected = f"dbkeep: another dbkeep command works on lab {lab.name}; wait for it or stop it (process "
    assert second.err.strip().splitlines()[-1].startswith(expected)


def test_a_taken_subnet_is_named_and_the_next_up_works(lab: UpLab) -> None:
    record = read_lab(lab.name)
    assert record is not None
    assert dbkeep("down", "--name", lab.name).status == 0
    subprocess.run(["ip", "link", "add", "dbk-taken", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"{record.subnet[7]}/24", "dev", "dbk-taken"], check=True)
        done = dbkeep("lab", "up", lab.name)
        assert done.status == 2
        assert f"subnet {record.subnet} of lab {lab.name} is taken by interface dbk-taken" in done.err
    finally:
        subprocess.run(["ip", "link", "delete", "dbk-taken"], check=True)
    assert dbkeep("lab", "up", lab.name).status == 0
    assert subprocess.run(["ip", "link", "show", bridge_name(lab.name)], check=False).returncode == 0


def test_a_machine_without_namespaces_is_told_so(lab: UpLab) -> None:
    narrow = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "./dbkeep", "lab", "up", lab.name]
    done = subprocess.run(narrow, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "this machine cannot run test hosts" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network_is_one_clear_line(lab: UpLab) -> None:
    """In a network namespace of its own the command sees no mirror; the base image of another release is wanted."""
    offline = ["unshare", "--net", ".venv/bin/python", "-c", OFFLINE]
    done = subprocess.run(offline, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "debootstrap" in done.stdout
    assert "check that this machine reaches a Debian mirror" in done.stdout
    assert lab.name not in done.stdout


OFFLINE = """
import sys, tempfile, pathlib
import dbkeep.lab.base as base
from dbkeep.errors import DbkeepError
try:
    base.make_base_image(pathlib.Path(tempfile.mkdtemp()) / "trixie", "trixie")
except DbkeepError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_ctrl_c_says_where_it_stopped(lab: UpLab) -> None:
    with subprocess.Popen(
        # A shell starts what runs in the background deaf to Ctrl-C, and every child inherits that.
        ["env", "--default-signal=INT", "./dbkeep", "up", "--name", lab.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Provision"):
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 1
    assert "dbkeep: interrupted during 'Provision by playbooks/site.yml'; run ./dbkeep up again to go on" in rest
