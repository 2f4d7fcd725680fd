"""One MongoDB host becomes three by the inventory alone while a service writes; a primary fails; one host leaves."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dbkeep.environment import Environment, Host, read_environment
from dbkeep.mongodb import inventory
from dbkeep.remote import call, ssh_command
from dbkeep.sample import open_api

from .breakages.shell import as_root, mongo
from .conftest import dbkeep
from .service import MARK, Service
from .test_drift import playbook, recap

pytestmark = pytest.mark.long

NAME = "grow"
HOSTS = [f"{NAME}-{number}" for number in (2, 1, 3)]  # the first has the data; API and Redis are beside the others

MAIN_PROCESS = "systemctl show -P MainPID mongod"

MISSING = f"""
import sys
from bson import ObjectId
wanted = [ObjectId(line.strip()) for line in sys.stdin]
found = {{d['_id'] for d in chat.messages.find({{'content': '{MARK}'}}, {{'_id': 1}})}}
print(sum(_id not in found for _id in wanted))
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[Environment]:
    """Three hosts with an engine each."""
    try:
        done = dbkeep("up", "--name", NAME, "--hosts", "3", "--json", timeout=1500)
        assert done.status == 0, done.err
        yield read_environment(NAME)
    finally:
        assert dbkeep("down", "--purge", "--name", NAME).status == 0


def name_members(environment: Environment, hosts: list[str]) -> None:
    """Change the inventory as a person does: the hosts of the group mongodb, and nothing else."""
    path = environment.path / "hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["all"]["children"]["mongodb"]["hosts"] = dict.fromkeys(hosts)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def run(host: Host, command: str, text: str = "") -> str:
    done = subprocess.run(
        [*ssh_command(host), command], input=text, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def primary(environment: Environment) -> Host:
    """Return the host that takes writes, as soon as there is one."""
    hosts = {host.address: host for host in environment.all_hosts if host.name in HOSTS}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for host in hosts.values():
            name = run(host, mongo("print(admin.command('hello').get('primary', ''))"))
            if name:
                return hosts[name.partition(":")[0]]
        time.sleep(0.5)
    raise AssertionError("no member became primary")


def provision(*arguments: str) -> dict[str, str]:
    done = playbook(NAME, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return recap(done.stdout)


def missing_on(environment: Environment, service: Service) -> dict[str, int]:
    """Return by host how many of the acknowledged writes it does not have; a member may be a moment behind."""
    deadline, ids = time.monotonic() + 60, "\n".join(service.acknowledged)
    while True:
        hosts = [host for host in environment.all_hosts if host.name in HOSTS]
        missing = {host.name: int(run(host, mongo(MISSING), ids)) for host in hosts}
        if not any(missing.values()) or time.monotonic() > deadline:
            return missing
        time.sleep(1)


def test_one_host_becomes_three_without_a_restart(environment: Environment) -> None:
    first = environment.hosts("mongodb")[0]
    started = run(first, MAIN_PROCESS)
    with Service(environment) as service:
        name_members(environment, HOSTS)
        drift = dbkeep("drift", "-e", NAME, "mongodb")
        assert drift.status == 1, drift.err
        assert drift.out.count("add as a copy without a vote") == 2
        provision()
        service.wait_for(50)
    assert run(first, MAIN_PROCESS) == started
    settings = run(environment.hosts("chat_api")[0], "grep ^CHAT_API_MONGODB_HOSTS= /etc/chat_api/chat_api.env")
    assert settings.partition("=")[2].split(",") == list(inventory.members(read_environment(NAME)))
    assert service.refused == []
    assert missing_on(environment, service) == dict.fromkeys(HOSTS, 0)
    again = playbook(NAME)
    assert set(recap(again.stdout).values()) == {"changed=0"}, again.stdout


def test_a_primary_that_steps_down_or_dies_loses_nothing(environment: Environment) -> None:
    with Service(environment) as service:
        first = primary(environment)
        run(first, mongo("admin.command('replSetStepDown', 30)"))
        service.wait_for(50)
        second = primary(environment)
        assert second != first
        run(second, as_root("systemctl kill --kill-whom=main --signal=KILL mongod.service"))
        service.wait_for(50)
        with open_api(environment) as api:
            assert api.get("/health/ready").status_code == 200
    assert service.refused == []
    assert missing_on(environment, service) == dict.fromkeys(HOSTS, 0)


def test_everything_finds_the_primary_and_a_repeated_up_keeps_the_inventory(environment: Environment) -> None:
    if primary(environment).name == HOSTS[0]:
        run(primary(environment), mongo("admin.command('replSetStepDown', 30)"))
    assert primary(environment).name != HOSTS[0]
    done = dbkeep("up", "--name", NAME, "--json")
    assert done.status == 0, done.err
    assert {host["changed"] for host in done.json["hosts"]} == {0}


def test_a_member_that_is_down_is_noticed_by_the_controls_of_the_others(
    environment: Environment, tmp_path: Path
) -> None:
    host = next(host for host in environment.all_hosts if host.name in HOSTS and host != primary(environment))
    controls, report = ["MG-REP-02", "MG-REP-03", "MG-REP-04"], tmp_path / "check.json"
    run(host, "sudo systemctl stop mongod.service")
    try:
        done = dbkeep("check", "-e", NAME, *controls, "--json", str(report))
    finally:
        run(host, "sudo systemctl start mongod.service")
    # Not 1: the host that is down cannot answer for itself.
    assert done.status == 2, done.out + done.err
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert sorted({result["control"] for result in results if result["state"] == "fail"}) == controls


def test_a_changed_setting_restarts_one_member_after_the_other(environment: Environment) -> None:
    members = [host for host in environment.all_hosts if host.name in HOSTS]
    before = {host.name: run(host, MAIN_PROCESS) for host in members}
    with Service(environment) as service:
        provision("--tags", "mongodb", "-e", "mongodb_connections_max=400")
        service.wait_for(20)
    assert service.refused == []
    assert all(run(host, MAIN_PROCESS) != before[host.name] for host in members)
    provision("--tags", "mongodb")


def test_the_timers_of_three_hosts_back_up_once(environment: Environment) -> None:
    members = [host for host in environment.all_hosts if host.name in HOSTS]
    taken = {}
    for host in members:
        run(host, "sudo rm -rf /var/lib/dbkeep/backup/sets/*")
        run(host, "sudo systemctl start dbkeep-backup.service")
        taken[host.name] = [part["engine"] for part in call(host, ["backup", "list"])["parts"]]
    assert sorted(name for name, engines in taken.items() if "mongodb" in engines) == [HOSTS[0]]


def test_a_host_that_the_inventory_lost_leaves_when_it_is_allowed(environment: Environment) -> None:
    name_members(environment, HOSTS[:2])
    with Service(environment) as service:
        held = dbkeep("apply", "-e", NAME, "mongodb")
        assert held.status == 1, held.err
        assert "remove, the inventory does not name it; 2 votes stay, none of them may fail" in held.out
        done = dbkeep("apply", "-e", NAME, "mongodb", "--allow-destructive")
        assert done.status == 0, done.out + done.err
        service.wait_for(20)
        provision()
        service.wait_for(20)
    assert service.refused == []
    assert dbkeep("drift", "-e", NAME, "mongodb").status == 0
