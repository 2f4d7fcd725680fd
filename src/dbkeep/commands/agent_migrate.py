"""`dbkeep agent migrate`: the migrations of the PostgreSQL or MongoDB server on this host."""

from __future__ import annotations

from typing import Any

import click

from dbkeep.commands.exchange import answer, read_request
from dbkeep.engines import engine, required_settings
from dbkeep.mongodb.migrations import history as mongodb_history
from dbkeep.plan import Change
from dbkeep.postgresql.migrations import history as postgresql_history


@click.group("migrate")
def agent_migrate_group() -> None:
    """Apply migrations on this host, or take them back."""


@agent_migrate_group.command("status")
def status_command() -> None:
    """Answer with every declared or applied migration."""
    name, settings, declared, _ = _read()
    entries = (
        mongodb_history.status(settings, declared)
        if name == "mongodb"
        else postgresql_history.status(settings, declared)
    )
    answer({"migrations": [entry.as_json() for entry in entries]})


@agent_migrate_group.command("up")
def up_command() -> None:
    """Apply the pending migrations, up to the one that the request names."""
    name, settings, declared, request = _read()
    more: dict[str, Any] = {"to": request.get("to"), "on_change": _report}
    if name == "mongodb":
        applied = mongodb_history.up(settings, declared, report=_say, **more)
    else:
        applied = postgresql_history.up(settings, declared, **more)
    answer({"applied": [change.as_json() for change in applied], "held": []})


@agent_migrate_group.command("down")
def down_command() -> None:
    """Take migrations back, or answer with what that would remove."""
    name, settings, declared, request = _read()
    allowed = bool(request.get("allow_destructive", False))
    more: dict[str, Any] = {"to": request.get("to"), "allow_destructive": allowed, "on_change": _report}
    if name == "mongodb":
        applied, held = mongodb_history.down(settings, declared, report=_say, **more)
    else:
        applied, held = postgresql_history.down(settings, declared, **more)
    answer({"applied": [change.as_json() for change in applied], "held": [change.as_json() for change in held]})


def _read() -> tuple[str, Any, Any, dict[str, Any]]:
    """Return the engine, how to reach it, its declared state and the whole request."""
    request = read_request()
    name = request.get("engine", "postgresql")
    return name, required_settings(name), engine(name).Declared.model_validate(request["declared"]), request


def _report(change: Change) -> None:
    _say(f"{change.kind} {change.target}: {change.summary}")


def _say(line: str) -> None:
    click.echo(line, err=True)
