"""`dbkeep drill`: a set restored into throw-away engines, and the history of what drills measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal
from rich.table import Table

from dbkeep.backup.controller.drill import DrillFailedError, default_store, drill_records, random_set, reason, run_drill
from dbkeep.commands.backup_options import (
    console,
    engines_option,
    environment_option,
    flat,
    identity_option,
    json_option,
    read_identity_file,
    set_option,
    show,
)
from dbkeep.commands.restore import parse_target
from dbkeep.environment import Environment, read_environment
from dbkeep.errors import UsageError


@click.command("drill")
@environment_option
@engines_option
@json_option
@identity_option
@set_option
@click.option("--point", metavar="NAME", help="This point: the set before it and the log of the engines since.")
@click.option("--to", metavar="TIME", help="The moment when this second began, such as 2026-11-28T08:00:00Z.")
@click.option("--random", "at_random", is_flag=True, help="Any set that retention keeps, not the newest.")
@click.option(
    "--store", metavar="NAME",
    help="The copy to restore: a store, or local. Without it the first store off the hosts, if there is one.",
)  # fmt: skip
@click.option("--history", "only_history", is_flag=True, help="Show what drills measured, and drill nothing.")
def drill_command(
    *,
    environment_name: str,
    engines: tuple[str, ...],
    as_json: bool,
    identity_file: Path | None,
    set_id: str | None,
    point: str | None,
    to: str | None,
    at_random: bool,
    store: str | None,
    only_history: bool,
) -> None:
    """Restore a set, a point or a moment into throw-away engines on its hosts, and attack them. Exit 1: it failed.

    With --history exit 1 says that the newest drill, or how old its recovery point is now, misses a target.
    """
    target = parse_target(set_id, point, to)
    if at_random and target:
        raise UsageError("--random chooses a set: leave it out, or what names another one")
    if only_history:
        show_history(read_environment(environment_name), as_json=as_json)
    identity = read_identity_file(identity_file)
    environment = read_environment(environment_name)
    if at_random:
        store = store or default_store(environment)
        set_id = random_set(environment, engines, store)
    try:
        moment = target if point or to else None
        evidence = run_drill(
            environment, set_id, engines, target=moment, store=store, identity=identity, on_progress=show
        )
    except DrillFailedError as error:
        show_drill(error.evidence, as_json=as_json)
        raise
    show_drill(evidence, as_json=as_json)


def show_drill(evidence: dict[str, Any], *, as_json: bool) -> None:
    """Print a drill's result: a line an engine, what could not be proved, then the measured RPO and RTO."""
    if as_json:
        click.echo(json.dumps(flat(evidence), indent=2))
        return
    observed = evidence["observed"]
    for engine, result in observed["engines"].items():
        attacked = ", attacked as every role" if result["attacked"] else ""
        console.print(f"{engine} {result['source_version']} on {result['host']}: {verdict(result)}{attacked}")
        for note in result["unproved"]:
            console.print(f"  not proved: {note}")
    used = observed["application"]
    console.print(f"application before the copies: {verdict(used) if used else 'not tried: it needs all engines'}")
    if observed["references"]:
        console.print(f"references between the stores that dangle: {observed['references']['dangling']}")
    console.print(
        f"{observed['target']} of {observed['store']}: drill {evidence['result']}, restored after "
        f"{observed['rto_seconds']:.1f} s, {observed['rpo_seconds']:.0f} s after its recovery point"
    )


def verdict(result: dict[str, Any]) -> str:
    return f"{len(result['assertions'])} assertions hold" if result["passed"] else f"FAILED: {reason(result)}"


def show_history(environment: Environment, *, as_json: bool) -> None:
    """Print what drills measured, and exit: 0 when the targets are met."""
    found = drill_records(environment)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        raise SystemExit(0 if found["met"] else 1)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("drill", "set", "of", "stored", "RPO s", "RTO s", "result", "targets"):
        table.add_column(heading)
    for row in found["drills"]:
        size = decimal(row["stored_bytes"]) if row["stored_bytes"] else ""
        table.add_row(
            row["started_at"], row["set_id"], row["store"], size, f"{row['rpo_seconds']:.0f}",
            f"{row['rto_seconds']:.1f}", row["result"], "met" if row["met"] else "MISSED",
        )  # fmt: skip
    console.print(table)
    age, targets = found["drilled_point_age_seconds"], found["targets"]
    point = "none" if age is None else f"{found['drilled_point']}, {age / 3600:.1f} h old"
    asked = f"targets: RPO {targets['rpo_seconds']:.0f} s, RTO {targets['rto_seconds']:.0f} s"
    console.print(f"newest drilled point: {point}; {asked}")
    raise SystemExit(0 if found["met"] else 1)
