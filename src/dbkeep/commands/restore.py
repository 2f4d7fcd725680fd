"""`dbkeep restore`: the engines of an environment back to a set, a point or a moment, from the controller."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from dbkeep.backup.controller.restore import restore_plan, run_restore, run_restore_beside
from dbkeep.backup.controller.sets import newest_set
from dbkeep.backup.controller.target import default_source, find_host, onto
from dbkeep.backup.manifest import NEWEST
from dbkeep.backup.points import check_name
from dbkeep.backup.restore.target import Target, check_time
from dbkeep.backup.settings import LOCAL
from dbkeep.commands.backup_options import (
    console,
    engines_option,
    environment_option,
    flat,
    identity_option,
    json_option,
    read_identity_file,
    show,
)
from dbkeep.commands.points import show_references
from dbkeep.environment import Environment, Host, read_environment
from dbkeep.errors import UsageError
from dbkeep.remote import AGENT


@click.command("restore")
@environment_option
@engines_option
@json_option
@identity_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--set", "set_id", metavar="ID", help="Back to this backup set; without any of the three, to the newest.")
@click.option("--point", metavar="NAME", help="Back to this point (`dbkeep backup points`).")
@click.option("--to", metavar="TIME", help="Back to what was there when this second began: 2026-11-28T08:00:00Z.")
@click.option(
    "--store",
    metavar="NAME",
    help="The copy of a store that backup_stores names. Without it the hosts' own, and for a --target HOST the first "
    "store off the hosts, if there is one.",
)
@click.option(
    "--target",
    "place",
    metavar="DIR|HOST",
    help="Restore into this new folder of the database hosts, beside what runs; nothing live is touched. Or onto "
    "another host of the inventory, in place of what its engines hold.",
)
def restore_command(
    *,
    environment_name: str,
    engines: tuple[str, ...],
    as_json: bool,
    identity_file: Path | None,
    yes: bool,
    set_id: str | None,
    point: str | None,
    to: str | None,
    store: str | None,
    place: str | None,
) -> None:
    """Put all engines back to one set, point or moment, after showing what is replaced and lost."""
    given = parse_target(set_id, point, to)
    identity = read_identity_file(identity_file)
    environment = read_environment(environment_name)
    host = parse_place(environment, place)
    if host:
        # Before anything is asked of a host: the wrong one is refused at once.
        onto(environment, host, engines)
    store = store or (default_source(environment) if host else LOCAL)
    if place and not host:
        target = given or Target(newest_set(environment, engines, store))
        done = run_restore_beside(environment, target, place, engines, store=store, identity=identity, on_progress=show)
        show_beside(done, as_json=as_json)
        return
    # What is in a store the other host reads itself: the one that wrote it may be gone.
    in_store = host is not None and store != LOCAL
    target = given or Target(NEWEST if in_store else newest_set(environment, engines, store))
    plan = restore_plan(environment, target, engines, store, host)
    show_plan(plan)
    if not yes:
        where = f" of {host.name}" if host else ""
        click.confirm(f"Replace the live data{where}?", abort=True, err=True)
    if target.set_id == NEWEST and not (target.point or target.to):
        target = Target(plan["parts"][0]["set_id"])
    done = run_restore(environment, target, engines, store=store, identity=identity, host=host, on_progress=show)
    if as_json:
        click.echo(json.dumps(flat(done), indent=2))
        return
    show_done(done, target, host)


def show_done(done: dict[str, Any], target: Target, host: Host | None) -> None:
    """Print where the engines are now, what dangles between them, and what is left to do."""
    for engine, result in done["observed"]["engines"].items():
        console.print(f"{engine}: restored to {result['recovery_point']}; what was there: {result['safety_copy']}")
    console.print(f"the engines are at {target}, not more than {apart(done['observed']['skew_seconds'])} apart")
    show_references(done["observed"])
    if host:
        console.print(f"passwords and permissions on {host.name} are those of that moment: run playbooks/site.yml")
        console.print(f"the environment goes on with its own engines; how {host.name} takes over: docs/points.md")
        return
    console.print("passwords and permissions are those of that moment now: run `dbkeep apply`")
    console.print("the logs begin anew: run `dbkeep backup run`, before which no later moment can be restored")


def parse_target(set_id: str | None, point: str | None, to: str | None) -> Target | None:
    """Return what was asked for, or None for the newest set; raises UsageError for two, and for what is no time."""
    given = {"--set": set_id, "--point": point, "--to": to}
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)}: a restore goes to one of them")
    if point:
        return Target(point=check_name(point))
    if to:
        try:
            return Target(to=check_time(datetime.fromisoformat(to)))
        except ValueError:
            raise UsageError(f"--to {to!r} is no time; write it as 2026-11-28T08:00:00Z") from None
    return Target(set_id) if set_id else None


def parse_place(environment: Environment, place: str | None) -> Host | None:
    """Return the host of the inventory that `place` names, None when it is a folder or not given.

    Raises UsageError when it is neither: a folder of the database hosts is named by its whole path.
    """
    if place is None:
        return None
    host = find_host(environment, place)
    if host is None and not place.startswith("/"):
        names = ", ".join(host.name for host in environment.all_hosts)
        raise UsageError(
            f"--target {place}: no host of inventory/{environment.name} (there is {names}), and no folder of the "
            "database hosts, which is named by its whole path, such as /srv/look"
        )
    return host


def show_beside(done: dict[str, Any], *, as_json: bool) -> None:
    """Print what was restored beside the running engines, and how to look into it."""
    if as_json:
        click.echo(json.dumps(flat(done), indent=2))
        return
    for found in done["observed"]["hosts"]:
        for engine, counts in found["counts"].items():
            names = ", ".join(f"{name} {count}" for name, count in counts.items())
            console.print(f"{engine} on {found['host']}, at {found['engines'][engine]['recovery_point']}: {names}")
        show_references(found)
        console.print(f"start its servers on {found['host']}: sudo {AGENT} agent backup serve {found['directory']}")


def apart(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def show_plan(plan: dict[str, Any]) -> None:
    """Print what a restore replaces in each engine and what is lost, on standard error."""
    for row in plan["parts"]:
        show_row(row, plan["source"])
    if len(plan["parts"]) > 1:
        show(f"all of it goes to {plan['target']}; the engines will be at most {apart(plan['skew_seconds'])} apart")


def show_row(row: dict[str, Any], source: str) -> None:
    """Print what the restore of one engine replaces and what is lost, on standard error.

    `source` is the host whose data it gets, when that is another one.
    """
    show(f"{row['engine']} on {row['host']}: stops {row['service']}, replaces {row['replaces']} (kept beside it)")
    log = f" and {row['slices']} slices of the log after it" if row["slices"] else ""
    show(f"  takes set {row['set_id']}{log}")
    if source:
        show(f"  gets the data of {source} as it was at {row['recovery_point']}, {row['lost_seconds']} s ago")
    else:
        show(f"  goes back to {row['recovery_point']}: what was written in the {row['lost_seconds']} s since is lost")
    if row["unfinished"]:
        show(f"  a restore was interrupted here: the data that was live before it is in {row['unfinished']}")
    if row["live"] is None:
        show("  it does not answer now, so what is there cannot be counted")
        return
    for name in sorted(row["live"].keys() | row["in_set"].keys()):
        live, stored = row["live"].get(name, 0), row["in_set"].get(name, "0")
        if str(live) != stored:
            show(f"  {name}: {live} now, {stored} in the set")
