"""`dbkeep keys`: the keys of encrypted fields of an environment, from the controller."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dbkeep import keys
from dbkeep.commands.plan import environment_option, json_option
from dbkeep.environment import read_environment

index_option = click.option("--blind-index", is_flag=True, help="The key of the index by which addresses are found.")
console = Console(highlight=False, soft_wrap=True)

_COUNT = re.compile(r"(?P<done>\d+)/(?P<total>\d+) values")


class Steps:
    """Shows the steps of a change on standard error; on a terminal also the task at work and a bar of the values."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def step(self, line: str) -> None:
        self._progress.update(self._task, description=line, completed=0, total=None)
        if not self._progress.console.is_terminal:
            click.echo(line, err=True)

    def task(self, line: str) -> None:
        self._progress.update(self._task, description=line)

    def count(self, line: str) -> None:
        if found := _COUNT.fullmatch(line):
            self._progress.update(self._task, completed=int(found["done"]), total=int(found["total"]))


@contextmanager
def steps() -> Iterator[Steps]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    errors = Console(stderr=True, highlight=False)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        yield Steps(progress)


@click.group("keys")
def keys_group() -> None:
    """Count, rotate and retire the keys of encrypted fields."""


@keys_group.command("status")
@environment_option
@json_option
def status_command(environment_name: str, as_json: bool) -> None:
    """Show every key version and how many values have it. Exit 1: not all have the newest."""
    found = keys.status(read_environment(environment_name))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_status(found)
    raise SystemExit(0 if found["complete"] else 1)


def show_status(found: dict[str, Any]) -> None:
    table = Table("key", "version", "state", "values", box=None)
    for row in found["versions"]:
        number = "" if row["values"] is None else str(row["values"])
        table.add_row(row["kind"], str(row["version"]), row["state"], number)
    console.print(table)
    if found["unreadable"]:
        console.print(f"{found['unreadable']} values have a key that the API does not: run `dbkeep keys rotate`")
    elif not found["complete"]:
        console.print("older keys have values left: run `dbkeep keys rotate`")


@keys_group.command("rotate")
@environment_option
@index_option
@click.option("--rate", type=click.FloatRange(min=1), metavar="N", help="Write at most N values a second.")
@json_option
def rotate_command(environment_name: str, blind_index: bool, rate: float | None, as_json: bool) -> None:
    """Make a new key and encrypt every value with it, or finish what older keys have left."""
    environment = read_environment(environment_name)
    with steps() as shown:
        done = keys.rotate(
            environment, blind_index=blind_index, rate=rate,
            on_step=shown.step, on_task=shown.task, on_count=shown.count,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(done, indent=2))
        return
    console.print(f"{done['rewritten']} values encrypted with key {done['newest']['field']} in {done['seconds']:.1f} s")
    if done["resumed"]:
        console.print("that finished what was left to older keys; for another key run it again")
    else:
        console.print("older keys still read: take each from the hosts with `dbkeep keys retire VERSION`")


@keys_group.command("retire")
@environment_option
@click.argument("version", type=click.IntRange(min=1))
@index_option
@json_option
def retire_command(environment_name: str, version: int, blind_index: bool, as_json: bool) -> None:
    """Take key VERSION from the hosts when no value uses it; the vault keeps it for backups."""
    kind = keys.INDEX if blind_index else keys.FIELD
    environment = read_environment(environment_name)
    with steps() as shown:
        done = keys.retire(environment, version, kind=kind, on_step=shown.step, on_task=shown.task)
    if as_json:
        click.echo(json.dumps(done, indent=2))
        return
    console.print(f"{done['kind']} key {version} is no longer on the hosts; the vault keeps it")
    sets = done["backup_sets"]
    if sets:
        console.print(f"{len(sets)} backup sets may hold values that need it: {sets[0]} to {sets[-1]}")
