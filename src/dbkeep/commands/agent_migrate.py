"""`dbkeep agent migrate`: the migrations of the PostgreSQL server on this host."""

from __future__ import annotations

from typing import Any, cast

import click

from dbkeep.commands.exchange import answer, read_request
from dbkeep.engines import required_settings
from dbkeep.plan import Change
from dbkeep.postgresql import Declared, history
from dbkeep.settings import PostgreSQLSettings


@click.group("migrate")
def agent_migrate_group() -> None:
    """Apply migrations on this host, or take them back."""


@agent_migrate_group.command("status")
def status_command() -> None:
    """Answer with every declared or applied migration."""
    settings, declared, _ = _read()
    answer({"migrations": [entry.as_json() for entry in history.status(settings, declared)]})


@agent_migrate_group.command("up")
def up_command() -> None:
    """Apply the pending migrations, up to the one that the request names."""
    settings, declared, request = _read()
    applied = history.up(settings, declared, to=request.get("to"), on_change=_report)
    answer({"applied": [change.as_json() for change in applied], "held": []})


@agent_migrate_group.command("down")
def down_command() -> None:
    """Take migrations back, or answer with what that would remove."""
    settings, declared, request = _read()
    allowed = bool(request.get("allow_destructive", False))
    applied, held = history.down(settings, declared, to=request.get("to"), allow_destructive=allowed, on_change=_report)
    answer({"applied": [change.as_json() for change in applied], "held": [change.as_json() for change in held]})


def _read() -> tuple[PostgreSQLSettings, Declared, dict[str, Any]]:
    request = read_request()
    settings = cast(PostgreSQLSettings, required_settings("postgresql"))
    return settings, Declared.model_validate(request["declared"]), request


def _report(change: Change) -> None:
    click.echo(f"{change.kind} {change.target}: {change.summary}", err=True)
