"""`dbkeep up`: from nothing to three provisioned, backed-up, checked databases with the chat API on top."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbkeep.backup.controller.drill import run_drill
from dbkeep.backup.controller.points import set_point
from dbkeep.backup.controller.sets import run_backup
from dbkeep.bundle import build_bundle
from dbkeep.checks.control import State
from dbkeep.checks.report import Report
from dbkeep.child import contained
from dbkeep.environment import Environment, checkout, read_environment
from dbkeep.errors import DbkeepError
from dbkeep.lab.inventory import APT_CACHE, write_inventory
from dbkeep.lab.lab import Lab, define_lab, prepare, raise_lab
from dbkeep.lab.mongodb_package import build as build_mongodb_package
from dbkeep.playbook import Recap, run_playbook
from dbkeep.remote import call
from dbkeep.sample import Sample, load_sample
from dbkeep.stages import Stages

PYTHON = {"bookworm": "3.11", "trixie": "3.13"}


@dataclass
class Result:
    """What `up` did and saw, for its closing table and `--json`."""

    environment: str
    hosts: list[dict[str, Any]] = field(default_factory=list)
    provisioned: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    backup: dict[str, Any] = field(default_factory=dict)
    drill: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def bring_up(name: str, *, hosts: int, release: str, stages: Stages) -> Result:
    """Bring the lab `name` up and prove it; what stands already is confirmed, not made again.

    Raises DbkeepError, naming what failed, at the first stage that does not end well.
    """
    with stages.stage("Prepare this machine and the base image"):
        lab = define_lab(name, hosts=hosts, release=release)
        prepare(lab)
    with stages.stage("Build the packages for the hosts"):
        build_mongodb_package(APT_CACHE)
        build_bundle(PYTHON[release])
    with stages.stage(f"Start {hosts} test host{'s' if hosts > 1 else ''}"):
        raise_lab(lab)
    with stages.stage("Write the inventory and its secrets"):
        write_inventory(lab)
        environment = read_environment(name)
    result = Result(name, seconds=stages.seconds)
    with stages.stage("Provision by playbooks/site.yml") as show:
        recap = provision(lab, show)
    result.hosts = _hosts(environment, recap)
    with stages.stage("Load sample data through the API"):
        result.sample = _sample(load_sample(environment))
        result.provisioned = describe(environment)
    with stages.stage("Take an encrypted backup of every engine") as show:
        result.backup = run_backup(environment, on_progress=show)
        set_point(environment, on_progress=show)
    with stages.stage("Restore it in a drill") as show:
        # The checks that follow attack the live servers as every role; the drill of every night does it to copies.
        evidence = run_drill(environment, result.backup["set_id"], attack=False, on_progress=show)
        result.drill = {"result": evidence["result"], **evidence["observed"]}
    with stages.stage("Run all checks"):
        result.checks = run_checks(lab)
    return result


def provision(lab: Lab, show: Callable[[str], None] = lambda _: None) -> Recap:
    """Run site.yml on the lab's hosts and return its recap; the log is in the lab's folder."""
    return run_playbook("site.yml", lab.name, log=lab.folder / "site.log", on_task=show)


def describe(environment: Environment) -> dict[str, Any]:
    """Return version, host, address, port and counts of every engine of the environment."""
    described: dict[str, Any] = {}
    for host in environment.all_hosts:
        if host.is_aside:
            continue
        for engine, facts in call(host, ["describe"]).items():
            # The first host of a group, as in plan and backup.
            described.setdefault(engine, {"host": host.name, "address": host.address, **facts})
    return described


def _hosts(environment: Environment, recap: Recap) -> list[dict[str, Any]]:
    return [
        {"name": host.name, "address": host.address, "changed": recap.hosts[host.name]["changed"]}
        for host in environment.all_hosts
    ]


def _sample(sample: Sample) -> dict[str, Any]:
    return {"users": sample.users, "conversations": sample.conversations, "messages": sample.messages}


def run_checks(lab: Lab) -> dict[str, Any]:
    """Run every control against the lab and return their summary.

    Raises DbkeepError with the first finding when there is one.
    """
    report = lab.folder / "check.json"
    report.unlink(missing_ok=True)
    command = [str(Path(sys.executable).parent / "dbkeep"), "check", "-e", lab.name, "--json", str(report)]
    done = subprocess.run(
        contained(command), cwd=checkout(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        log = lab.folder / "check.log"
        log.write_text("\n".join(lines) + "\n", encoding="utf-8")
        why = first_finding(report) or (lines[-1] if lines else "no reason given")
        raise DbkeepError(f"`dbkeep check -e {lab.name}` found something: {why} (all of it: {log})")
    return dict(json.loads(report.read_text(encoding="utf-8"))["summary"])


def first_finding(report: Path) -> str:
    """Return the first control that failed and what it said; nothing without a report or a failure."""
    if not report.is_file():
        return ""
    found = Report.model_validate_json(report.read_text(encoding="utf-8")).with_state(State.ERROR, State.FAIL)
    return f"{found[0].control} on {found[0].host}: {found[0].message}" if found else ""
