"""`dbkeep passwords`: the passwords of the services' users of an environment, from the controller."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dbkeep import passwords
from dbkeep.commands.keys import steps
from dbkeep.commands.plan import environment_option, json_option
from dbkeep.environment import read_environment

# The one engine whose users may have two passwords at once.
engine_argument = click.argument("engine", type=click.Choice((passwords.ENGINE,)), expose_value=False)
console = Console(highlight=False, soft_wrap=True)


@click.group("passwords")
def passwords_group() -> None:
    """Count and rotate the passwords of the services' users."""


@passwords_group.command("status")
@engine_argument
@environment_option
@json_option
def status_command(environment_name: str, as_json: bool) -> None:
    """Show how many passwords let each user in. Exit 1: a rotation waits to be finished, or one has too many."""
    found = passwords.status(read_environment(environment_name))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_status(found)
    raise SystemExit(0 if found["complete"] else 1)


def show_status(found: dict[str, Any]) -> None:
    table = Table("user", "rotation", "passwords", box=None)
    for row in found["users"]:
        counts = ", ".join(f"{count} on {instance}" for instance, count in row["passwords"].items())
        table.add_row(row["user"], f"{row['second']} one let in" if row["second"] else "", counts)
    console.print(table)
    if not found["complete"]:
        name = found["environment"]
        console.print(
            f"finish a rotation with `dbkeep passwords rotate redis -e {name}`; anything else: `dbkeep drift`"
        )


@passwords_group.command("rotate")
@engine_argument
@click.argument("users", nargs=-1)
@environment_option
@json_option
def rotate_command(users: tuple[str, ...], environment_name: str, as_json: bool) -> None:
    """Give USERS (without any: every service's) new passwords while they run, or finish what an earlier run left."""
    environment = read_environment(environment_name)
    with steps() as shown:
        done = passwords.rotate(environment, users, on_step=shown.step, on_task=shown.task)
    if as_json:
        click.echo(json.dumps(done, indent=2))
        return
    console.print(f"new passwords: {', '.join(done['rotated'])}")
    if done["resumed"]:
        console.print("that finished what an earlier run left; for others run it again")
