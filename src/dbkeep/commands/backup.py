"""`dbkeep backup`: the backup sets and points of an environment, from the controller."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.filesize import decimal

from dbkeep.backup.controller.sets import (
    copy_sets,
    newest_set,
    prove_stores,
    read_catalog,
    run_backup,
    store_policy,
    verify_set,
)
from dbkeep.backup.escrow import write_escrow
from dbkeep.backup.score import text as score_text
from dbkeep.backup.settings import ALL, LOCAL
from dbkeep.commands.backup_options import (
    console,
    engines_option,
    environment_option,
    json_option,
    set_option,
    show,
    store_option,
)
from dbkeep.commands.backup_sets import prune_command, show_command, sign_command
from dbkeep.commands.points import mark_command, points_command, references_command
from dbkeep.environment import read_environment


@click.group("backup")
def backup_group() -> None:
    """Take, copy, list and verify backup sets, and set points between them."""


backup_group.add_command(mark_command)
backup_group.add_command(points_command)
backup_group.add_command(references_command)
for command in (show_command, prune_command, sign_command):
    backup_group.add_command(command)


@backup_group.command("run")
@environment_option
@engines_option
@json_option
def run_command(environment_name: str, engines: tuple[str, ...], as_json: bool) -> None:
    """Take one backup set of all engines now."""
    found = run_backup(read_environment(environment_name), engines, on_progress=show)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    size = decimal(found["stored_bytes"])
    console.print(f"set {found['set_id']}: {', '.join(found['engines'])}, {size} in {found['seconds']:.1f} s")
    console.print(
        f"recovery point {found['recovery_point']}, {found['skew_seconds'] * 1000:.0f} ms between the engines"
    )
    if found["not_backed_up"]:
        console.print(f"not backed up, as declared: redis {', '.join(found['not_backed_up'])}")


@backup_group.command("list")
@environment_option
@json_option
@store_option
def list_command(environment_name: str, as_json: bool, store: str) -> None:
    """List the backup sets, what they hold and which stores have copies, oldest first. Exit 1: some cannot be read."""
    found = read_catalog(read_environment(environment_name), store)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        raise SystemExit(1 if found["errors"] else 0)
    for one in found["sets"]:
        skew, size = f"{one['skew_seconds'] * 1000:.0f} ms apart", decimal(one["stored_bytes"])
        names = ", ".join(one["engines"]) + ("" if one["complete"] else " (not complete)")
        copies = f"  copies: {', '.join(one['copies']) or 'NONE'}" if found["stores"] else ""
        console.print(f"{one['set_id']}  {one['recovery_point']}  {skew:>13}  {size:>9}  {names}{copies}")
    if not found["sets"]:
        console.print("no backup set yet; take one with `dbkeep backup run`")
    if found["score"]:
        console.print(score_text(found["score"]))
    for host, errors in found["errors"].items():
        for error in errors:
            console.print(f"{host}: {error}")
    raise SystemExit(1 if found["errors"] else 0)


@backup_group.command("copy")
@environment_option
@json_option
@click.option("--again", metavar="ID", help="Copy all of this set, also what is there: a damaged copy is mended so.")
def copy_command(environment_name: str, as_json: bool, again: str | None) -> None:
    """Bring every store what it lacks; every run does it too."""
    copied = copy_sets(read_environment(environment_name), again, on_progress=show)
    if as_json:
        click.echo(json.dumps({"copied": copied}, indent=2))
    elif not copied:
        console.print("every store has every set")


@backup_group.command("stores")
@environment_option
@json_option
@click.option("--prepare", is_flag=True, help="First make the buckets, or turn versions and object lock on in them.")
def stores_command(environment_name: str, as_json: bool, prepare: bool) -> None:
    """Prove that every store answers and refuses to delete what is locked. Exit 1: one does not."""
    rows = prove_stores(read_environment(environment_name), prepare=prepare)
    if as_json:
        click.echo(json.dumps({"stores": rows}, indent=2))
    else:
        for row in rows:
            for done in row["prepared"]:
                console.print(f"{row['name']} from {row['host']}: {done}")
            verdict = "; ".join(row["faults"]) or ("locked" if row["locked"] else "answers, without locks")
            console.print(f"{row['name']} from {row['host']}: {verdict}")
        if not rows:
            console.print("no store is declared: set backup_stores, so that a copy is off the host")
    raise SystemExit(1 if any(row["faults"] for row in rows) else 0)


@backup_group.command("policy")
@environment_option
@click.argument("store")
def policy_command(environment_name: str, store: str) -> None:
    """Print what an S3 store's administrator sets: the policy of the host's key, and the lifecycle of the bucket."""
    click.echo(json.dumps(store_policy(read_environment(environment_name), store), indent=2))


@backup_group.command("verify")
@environment_option
@engines_option
@json_option
@set_option
@click.option("--store", default=ALL, show_default=True, metavar="NAME", help="Only this copy: local, or a store.")
def verify_command(
    environment_name: str, engines: tuple[str, ...], as_json: bool, set_id: str | None, store: str
) -> None:
    """Compare a set's stored bytes with its manifests, in every copy. Exit 1: something differs or is missing."""
    environment = read_environment(environment_name)
    set_id = set_id or newest_set(environment, engines, LOCAL if store == ALL else store)
    found = verify_set(environment, set_id, engines, store)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for engine, problems in found["problems"].items():
            console.print(f"{engine}: {'; '.join(problems) or 'every stored byte is as it was written'}")
        for name, good in found["copies"].items():
            console.print(f"copy {name}: {'good' if good else 'BAD'}")
    raise SystemExit(0 if found["ok"] else 1)


@backup_group.command("escrow")
@environment_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def escrow_command(environment_name: str, file: Path) -> None:
    """Seal what a restore needs besides a store into FILE, for the operators' offline keys (docs/recovery-kit.md)."""
    for key in write_escrow(read_environment(environment_name), file):
        console.print(f"{file} opens with the identity of {key}")
