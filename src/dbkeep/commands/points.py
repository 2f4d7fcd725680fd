"""`dbkeep backup mark`, `points` and `references`: one moment over all engines, from the controller."""

from __future__ import annotations

import json
from typing import Any

import click

from dbkeep.backup.controller.points import list_points, set_point
from dbkeep.backup.controller.references import check_references
from dbkeep.backup.controller.sets import placed
from dbkeep.commands.backup_options import (
    console,
    engines_option,
    environment_option,
    json_option,
    show,
)
from dbkeep.environment import read_environment

SHOWN = 20


@click.command("mark")
@environment_option
@engines_option
@json_option
@click.option("--name", metavar="NAME", help="What to call the point; the present time without it.")
def mark_command(environment_name: str, engines: tuple[str, ...], as_json: bool, name: str | None) -> None:
    """Set a point in all engines at once, which `restore --point` goes back to."""
    point = set_point(read_environment(environment_name), name, engines, on_progress=show)
    if as_json:
        click.echo(json.dumps(point, indent=2))
        return
    console.print(f"point {point['name']}: {', '.join(point['engines'])} at {point['at']}, {skew(point)}")


@click.command("points")
@environment_option
@json_option
@click.option("--all", "show_all", is_flag=True, help=f"Not only the newest {SHOWN}.")
def points_command(environment_name: str, as_json: bool, show_all: bool) -> None:
    """List the points, how far apart their engines are, and from where each is restorable, oldest first.

    Exit 1: some records cannot be read, or a store does not answer.
    """
    found = list_points(read_environment(environment_name), None if show_all else SHOWN)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        raise SystemExit(1 if found["errors"] else 0)
    if found["all"] > len(found["points"]):
        console.print(f"{found['all'] - len(found['points'])} older ones: --all shows them")
    for point in found["points"]:
        names = ", ".join(point["engines"]) + ("" if point["complete"] else " (not complete)")
        places = ", ".join(point["restorable_from"]) or "NOWHERE"
        console.print(f"{point['name']}  {point['at']}  {skew(point):>24}  {names}  restorable from: {places}")
    if not found["points"]:
        console.print("no point yet; set one with `dbkeep backup mark`")
    for host, errors in found["errors"].items():
        for error in errors:
            console.print(f"{host}: {error}")
    raise SystemExit(1 if found["errors"] else 0)


def skew(point: dict[str, Any]) -> str:
    """Return how far apart the engines are, and whose clocks say so where there are several."""
    clocks = " by the hosts' clocks" if len(point["hosts"]) > 1 else ""
    return f"{point['skew_seconds'] * 1000:.1f} ms apart{clocks}"


@click.command("references")
@environment_option
@json_option
def references_command(environment_name: str, as_json: bool) -> None:
    """Compare what the stores say of each other: senders, participants and sessions are users. Exit 1: some are not."""
    found = check_references(placed(read_environment(environment_name)))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_references(found)
    raise SystemExit(1 if found["dangling"] else 0)


def show_references(found: dict[str, Any]) -> None:
    """Print what dangles, with a few ids, or that nothing does."""
    if found.get("error"):
        console.print(f"the references between the stores could not be compared: {found['error']}")
        return
    for row in found["references"]:
        if row["dangling"]:
            console.print(
                f"{row['reference']}: {row['dangling']} name {row['missing_users']} users that do not exist, "
                f"of {row['users']}"
            )
            for example in row["examples"]:
                where = f" in {example['document']}" if example["document"] else ""
                console.print(f"  user {example['user']}{where}")
    if not found["dangling"]:
        users = sum(row["users"] for row in found["references"])
        console.print(f"nothing dangles between the stores: {users} references to users are good")
