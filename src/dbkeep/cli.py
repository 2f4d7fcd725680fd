"""The command line: what runs which command, and how every error becomes one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from dbkeep.errors import DbkeepError

DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Commands are imported when they are called: ansible, boto3 and the drivers cost more to load than most commands run.
COMMANDS = {
    "up": ("dbkeep.commands.up", "up_command"),
    "down": ("dbkeep.commands.up", "down_command"),
    "status": ("dbkeep.commands.up", "status_command"),
    "test": ("dbkeep.commands.test", "test_command"),
    "init": ("dbkeep.commands.init", "init_command"),
    "plan": ("dbkeep.commands.plan", "plan_command"),
    "apply": ("dbkeep.commands.plan", "apply_command"),
    "drift": ("dbkeep.commands.plan", "drift_command"),
    "migrate": ("dbkeep.commands.migrate", "migrate_group"),
    "check": ("dbkeep.commands.check", "check_command"),
    "prove": ("dbkeep.commands.prove", "prove_command"),
    "backup": ("dbkeep.commands.backup", "backup_group"),
    "restore": ("dbkeep.commands.restore", "restore_command"),
    "drill": ("dbkeep.commands.drill", "drill_command"),
    "schedule": ("dbkeep.commands.schedule", "schedule_command"),
    "keys": ("dbkeep.commands.keys", "keys_group"),
    "passwords": ("dbkeep.commands.passwords", "passwords_group"),
    "diagnostics": ("dbkeep.commands.diagnostics", "diagnostics_command"),
    "lab": ("dbkeep.commands.lab", "lab_group"),
    "agent": ("dbkeep.commands.agent", "agent_group"),
}


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: Any = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dbkeep")
def cli() -> None:
    """Provision, harden, back up and keep proving PostgreSQL, MongoDB and Redis."""


def main() -> None:
    """Run the command line: exit 0 done or clean, 1 drift, findings or failure, 2 usage or tool error."""
    try:
        status = cli.main(standalone_mode=False)
    except DbkeepError as error:
        click.echo(f"dbkeep: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_REFUSES:
            raise
        click.echo(f"dbkeep: {error.filename or 'a file'}: {error.strerror}; make room or mount it anew", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("dbkeep: interrupted; run the same command again to go on", err=True)
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
