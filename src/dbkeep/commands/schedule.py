"""`dbkeep schedule`: what runs when and where, as a table, as crontabs, or as systemd units of the controller."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dbkeep.backup.controller.schedule import CONTROLLER, crontab, jobs, units
from dbkeep.commands.plan import environment_option, json_option
from dbkeep.environment import checkout, read_environment
from dbkeep.errors import UsageError
from dbkeep.files import write_atomically


@click.command("schedule")
@environment_option
@json_option
@click.option("--cron", is_flag=True, help="Print crontabs for hosts without systemd.")
@click.option("--host", "only", metavar="NAME", help="Only the jobs of this host, or of `controller`.")
@click.option("--mail-to", default="root", show_default=True, help="Whom cron mails what a failed run printed.")
@click.option(
    "--units", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write the controller's systemd units into this folder.",
)  # fmt: skip
def schedule_command(
    *, environment_name: str, as_json: bool, cron: bool, only: str | None, mail_to: str, folder: Path | None
) -> None:
    """Say what runs when and on which host: backups, recovery points, the drill and the checks."""
    environment = read_environment(environment_name)
    found = jobs(environment, checkout())
    if only:
        found = [job for job in found if job.host == only]
        if not found:
            raise UsageError(f"nothing of environment {environment_name} runs on {only!r}")
    if folder:
        for job in (job for job in found if job.host == CONTROLLER):
            for name, text in units(environment_name, job, checkout(), getpass.getuser()).items():
                write_atomically(folder / name, text, mode=0o644)
                click.echo(folder / name)
    elif as_json:
        rows = [{**asdict(job), "start_seconds": job.start_seconds} for job in found]
        click.echo(json.dumps({"jobs": rows}, indent=2))
    elif cron:
        for host in dict.fromkeys(job.host for job in found):
            click.echo(crontab(environment_name, host, found, mail_to))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("job", "host", "when", "late by at most", "by"):
            table.add_column(heading)
        for job in found:
            by = job.unit or "your timer: --units or --cron"
            table.add_row(job.name, job.host, job.calendar, f"{job.delay_seconds} s", by)
        Console(highlight=False, width=140).print(table)
