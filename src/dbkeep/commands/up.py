"""`dbkeep up`, `down` and `status`: the whole story on test hosts of this machine."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dbkeep.commands.lab import lab_lock
from dbkeep.environment import checkout
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.lab.lab import Lab, labs, read_lab, remove_lab, require_root, stop_lab
from dbkeep.lab.machine import nspawn_process
from dbkeep.lab.paths import RELEASES, check_name
from dbkeep.stages import Stages

name_option = click.option("--name", default="lab", show_default=True, help="Name of the lab and its environment.")
console = Console(highlight=False, soft_wrap=True, stderr=True)


@click.command("up")
@click.option("--hosts", type=click.Choice(["1", "3"]), default=None, help="One host for all, or one for each engine.")
@click.option("--release", type=click.Choice(RELEASES), default=None, help="The hosts' Debian release.")
@name_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def up_command(hosts: str | None, release: str | None, name: str, as_json: bool) -> None:
    """Provision, back up, drill and check a whole environment on test hosts. Exit 0 only if all of it is green."""
    from dbkeep.up import bring_up  # noqa: PLC0415 - loads every engine; `down` and `status` need none

    require_root()
    check_name(name)
    stages = Stages(console)
    with lab_lock(name):
        present = read_lab(name)
        size = int(hosts) if hosts else len(present.machines) if present else 1
        debian = release or (present.release if present else RELEASES[0])
        try:
            result = bring_up(name, hosts=size, release=debian, stages=stages)
        except DbkeepError as error:
            error.args = (f"{stages.current}: {error}",)
            raise
        except KeyboardInterrupt:
            raise DbkeepError(f"interrupted during {stages.current!r}; run ./dbkeep up again to go on") from None
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result), indent=2))
    else:
        from dbkeep.up_report import show_result  # noqa: PLC0415

        show_result(result)


@click.command("down")
@name_option
@click.option("--purge", is_flag=True, help="Delete the hosts, their data and backups, the inventory and its secrets.")
def down_command(name: str, purge: bool) -> None:
    """Stop the test hosts; with --purge remove them and their secrets."""
    require_root()
    check_name(name)
    with lab_lock(name):
        lab = read_lab(name)
        inventory = checkout() / "inventory" / name
        if lab is None and not (purge and inventory.is_dir()):
            raise UsageError(f"there is no lab {name}; `./dbkeep status` lists what there is")
        if lab:
            (remove_lab if purge else stop_lab)(lab)
        if purge and inventory.is_dir():
            shutil.rmtree(inventory)
    console.print(f"lab {name} is {'removed' if purge else 'stopped; ./dbkeep up brings it back'}")


@click.command("status")
@click.option("--json", "as_json", is_flag=True)
def status_command(as_json: bool) -> None:
    """Say which test hosts run, and what is provisioned on them."""
    rows = [row for lab in labs() for row in _rows(lab)]
    if as_json:
        click.echo(json.dumps({"hosts": rows}, indent=2))
        return
    if not rows:
        click.echo("no test hosts; ./dbkeep up makes them")
        return
    table = Table("lab", "host", "address", "Debian", "state", "inventory", box=None)
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("lab", "host", "address", "release", "state", "inventory")))
    Console(highlight=False).print(table)


def _rows(lab: Lab) -> list[dict[str, str]]:
    inventory = Path("inventory") / lab.name
    known = str(inventory) if (checkout() / inventory).is_dir() else "none in this checkout"
    return [
        {
            "lab": lab.name,
            "host": machine.name,
            "address": machine.address,
            "release": lab.release,
            "state": "running" if nspawn_process(machine) else "stopped",
            "inventory": known,
        }
        for machine in lab.machines
    ]
