"""`dbkeep backup show`, `prune` and `sign`: what a set is, retention now, signatures for older sets."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.filesize import decimal

from dbkeep.backup.controller.sets import prune_sets, show_set, sign_sets
from dbkeep.commands.backup_options import console, environment_option, json_option, set_option, show, store_option
from dbkeep.environment import read_environment

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")


@click.command("show")
@environment_option
@json_option
@set_option
@store_option
def show_command(environment_name: str, as_json: bool, set_id: str | None, store: str) -> None:
    """Show what the manifests of a set say: versions, counts, digests, keys, tools and fingerprints."""
    found = show_set(read_environment(environment_name), set_id, store)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    console.print(f"set {found['set_id']}, recovery point {found['recovery_point']}, copies: {_list(found['copies'])}")
    for engine, part in found["parts"].items():
        _show_part(engine, part)


def _show_part(engine: str, part: dict[str, Any]) -> None:
    console.print(
        f"{engine} {part['server_version']} on {part['host']}: {decimal(part['stored_bytes'])} in "
        f"{part['seconds']:.1f} s, point {part['recovery_point']['name']}"
    )
    for name in sorted(part["counts"].keys() | part["digests"].keys()):
        count = part["counts"].get(name)
        number = "" if count is None else _between(count)
        console.print(f"  {name:<32} {number:>12}  {part['digests'].get(name, 'no digest')}")
    console.print(f"  opens with {_list(part['recipients'])}")
    console.print(f"  signed by {part['signed_by']}")
    console.print(f"  made by {_list(f'{name} {version}' for name, version in part['tools'].items())}")
    for kind, fingerprint in part["fingerprints"].items():
        console.print(f"  fingerprint of {kind}: {fingerprint}")


def _between(count: dict[str, int]) -> str:
    return str(count["low"]) if count["low"] == count["high"] else f"{count['low']}-{count['high']}"


def _list(names: Any) -> str:
    return ", ".join(names) or "none"


@click.command("prune")
@environment_option
@json_option
@dry_run_option
def prune_command(environment_name: str, as_json: bool, dry_run: bool) -> None:
    """Let go now what retention does not keep, on the hosts and in directories. Every good run does it too."""
    found = prune_sets(read_environment(environment_name), dry_run=dry_run, on_progress=show)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    verb = "would go" if dry_run else "removed"
    for host, answer in found["hosts"].items():
        for place, ids in answer["removed"].items():
            console.print(f"{host}, {place}: {f'{verb}: {_list(ids)}' if ids else 'nothing to let go'}")
        for name in answer["by_lifecycle"]:
            console.print(f"{host}, {name}: its lifecycle lets sets go: `dbkeep backup policy {name}`")


@click.command("sign")
@environment_option
@json_option
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def sign_command(environment_name: str, as_json: bool, dry_run: bool, yes: bool) -> None:
    """Sign the sets that the hosts took before the environment had a signing key, after comparing their bytes."""
    environment = read_environment(environment_name)
    found = sign_sets(environment, dry_run=True)
    unsigned = {host: parts for host, parts in found["parts"].items() if parts}
    for host, parts in unsigned.items():
        show(f"{host}: not signed: {_list(parts)}")
    if unsigned and not dry_run:
        if not yes:
            click.confirm("Are these the hosts' own, from before there was a key?", abort=True, err=True)
        found = sign_sets(environment, on_progress=show)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not unsigned:
        console.print("every set on the hosts is signed")
    elif not dry_run:
        console.print("the next run brings the stores the signatures, or `dbkeep backup copy`")
