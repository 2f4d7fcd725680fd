"""`dbkeep diagnostics`: runs the runbook scripts/diagnostics.py on an environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import click

from dbkeep.commands.plan import environment_option
from dbkeep.diagnostics import Collection
from dbkeep.environment import checkout
from dbkeep.errors import DbkeepError


@click.command("diagnostics")
@environment_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The archive, FILE.tar.gz.")
def diagnostics_command(environment_name: str, output: Path | None) -> None:
    """Collect versions, states, plans and check results of every host into one archive without secrets.

    Exit 0: everything is in it; 1: something could not be collected, its index.json says what.
    """
    path = (output or Path(Collection.of(environment_name).default_path())).absolute()
    program = Path(sys.executable).parent / "pyinfra"
    done = subprocess.run(
        [str(program), "-y", "scripts/inventory.py", "scripts/diagnostics.py"],
        cwd=checkout(),
        env={**os.environ, "DBKEEP_ENVIRONMENT": environment_name, "DBKEEP_DIAGNOSTICS": str(path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if not path.exists():
        reason = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no reason given"])[-1]
        raise DbkeepError(f"no archive was made: {reason.strip()}; are the hosts of {environment_name} up?")
    click.echo(path)
    missing = _not_collected(path)
    for name, reason in missing.items():
        click.echo(f"dbkeep: {name}: not collected: {reason}", err=True)
    raise SystemExit(1 if missing or done.returncode else 0)


def _not_collected(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        member = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/index.json")
        return dict(json.load(member)["not_collected"]) if member else {}
