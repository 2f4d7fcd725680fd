"""`dbkeep lab`: test hosts without anything on them, for trying roles and playbooks."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import AbstractContextManager
from typing import Any

import click

from dbkeep.errors import UsageError
from dbkeep.lab.lab import Lab, define_lab, labs, prepare, raise_lab, read_lab, remove_lab, require_root, stop_lab
from dbkeep.lab.machine import Machine, nspawn_process
from dbkeep.lab.paths import RELEASES, lab_directory, locked

name_argument = click.argument("name", default="lab")


@click.group("lab")
def lab_group() -> None:
    """Make and remove test hosts (real Debian machines, by systemd-nspawn)."""


def lab_lock(name: str) -> AbstractContextManager[None]:
    """Hold the lab: one command at a time may change it."""
    busy = f"another dbkeep command works on lab {name}; wait for it or stop it"
    return locked(lab_directory(name).with_suffix(".lock"), busy)


def existing(name: str) -> Lab:
    lab = read_lab(name)
    if lab is None:
        raise UsageError(f"there is no lab {name}; make it with `./dbkeep lab up {name}`")
    return lab


@lab_group.command("up")
@name_argument
@click.option("--hosts", default=1, show_default=True, help="How many hosts.")
@click.option("--release", type=click.Choice(RELEASES), default=RELEASES[0], show_default=True)
def up_command(name: str, hosts: int, release: str) -> None:
    """Start test hosts, making them if they do not exist."""
    require_root()
    with lab_lock(name):
        lab = define_lab(name, hosts=hosts, release=release)
        prepare(lab)
        raise_lab(lab)
    for machine in lab.machines:
        click.echo(f"{machine.name} {machine.address}")


@lab_group.command("down")
@name_argument
@click.option("--purge", is_flag=True, help="Delete the hosts' disks and keys too.")
def down_command(name: str, purge: bool) -> None:
    """Shut test hosts down."""
    require_root()
    with lab_lock(name):
        (remove_lab if purge else stop_lab)(existing(name))


@lab_group.command("status")
@click.option("--json", "as_json", is_flag=True)
def status_command(as_json: bool) -> None:
    """List the labs of this machine and which hosts run."""
    rows = [_row(lab, machine) for lab in labs() for machine in lab.machines]
    if as_json:
        click.echo(json.dumps({"hosts": rows}, indent=2))
    for row in () if as_json else rows:
        state = "running" if row["running"] else "stopped"
        click.echo(f"{row['host']:<12} {row['address']:<16} {row['release']:<9} {state}")


def _row(lab: Lab, machine: Machine) -> dict[str, Any]:
    return {
        "lab": lab.name,
        "host": machine.name,
        "address": machine.address,
        "release": lab.release,
        "running": nspawn_process(machine) is not None,
    }


def find_machine(host: str) -> tuple[Lab, Machine]:
    """Return the host of that name among all labs; raises UsageError when there is none."""
    for lab in labs():
        for machine in lab.machines:
            if machine.name == host:
                return lab, machine
    raise UsageError(f"no lab has a host {host}; `./dbkeep lab status` lists them")


@lab_group.command("ssh")
@click.argument("host", default="lab-1")
def ssh_command(host: str) -> None:
    """Open a shell on a test host."""
    lab, machine = find_machine(host)
    os.execvp("ssh", lab.ssh_command(machine))


@lab_group.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(host: str, command: tuple[str, ...]) -> None:
    """Run a command on a test host as ops; its exit status is this command's."""
    lab, machine = find_machine(host)
    raise SystemExit(subprocess.run([*lab.ssh_command(machine), "--", *command], check=False).returncode)
