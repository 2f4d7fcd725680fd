"""`dbkeep agent`: the side that runs on a database host, called over SSH, by timers and by nothing else.

A JSON request comes on standard input, the JSON answer goes to standard output, progress to standard error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from dbkeep.checks import facts
from dbkeep.commands.agent_backup import agent_backup_group
from dbkeep.commands.agent_keys import agent_keys_group
from dbkeep.commands.agent_migrate import agent_migrate_group
from dbkeep.commands.exchange import answer, read_request
from dbkeep.engines import NAMES, engine, engine_settings, required_settings
from dbkeep.mongodb.members import wait_until_it_serves
from dbkeep.plan import Change, hold_back
from dbkeep.postgresql.connect import connect
from dbkeep.postgresql.prove.seed import Seed
from dbkeep.redis.trial import try_file
from dbkeep.settings import MongoDBSettings, PostgreSQLSettings, RedisServer


@click.group(name="agent", hidden=True)
def agent_group() -> None:
    """Work on this database host (called by the controller and by timers)."""


@agent_group.command("plan")
@click.argument("name", type=click.Choice(NAMES))
def plan_command(name: str) -> None:
    """Answer with the plan of one engine for the declared state in the request."""
    request = read_request()
    face = engine(name)
    declared = face.Declared.model_validate(request["declared"])
    secrets, options = request.get("secrets", {}), request.get("options", {})
    answer(face.plan(required_settings(name), declared, secrets, **options).as_json())


@agent_group.command("apply")
@click.argument("name", type=click.Choice(NAMES))
def apply_command(name: str) -> None:
    """Apply the plan of one engine and answer with what was applied and what was held back."""
    request = read_request()
    face = engine(name)
    settings = required_settings(name)
    declared = face.Declared.model_validate(request["declared"])
    secrets, options = request.get("secrets", {}), request.get("options", {})
    progress = {"report": _say} if name == "mongodb" else {}
    applied = face.apply(
        settings,
        declared,
        secrets,
        allow_destructive=bool(request.get("allow_destructive", False)),
        on_change=_report,
        **progress,
        **options,
    )
    _, held = hold_back(face.plan(settings, declared, secrets, **options), allow_destructive=False)
    answer({"engine": name, "applied": [c.as_json() for c in applied], "held": [c.as_json() for c in held]})


def _report(change: Change) -> None:
    _say(f"{change.kind} {change.target}: {change.summary}")


def _say(line: str) -> None:
    click.echo(line, err=True)


@agent_group.command("wait")
@click.argument("name", type=click.Choice(("mongodb",)))
def wait_command(name: str) -> None:
    """Return when the server on this host serves again after its start (called by the role that restarts it)."""
    settings = required_settings(name)
    assert isinstance(settings, MongoDBSettings)  # noqa: S101 - the name decides the type
    wait_until_it_serves(settings)


@agent_group.command("facts")
@click.argument("name", type=click.Choice(facts.NAMES))
def facts_command(name: str) -> None:
    """Answer with what one observer of the controls sees on this host."""
    answer(facts.gather(name, read_request()))


@agent_group.command("people")
@click.argument("action", type=click.Choice(("add", "remove")))
def people_command(action: str) -> None:
    """Add the people that the prover's probes act for, or remove them all; answer with how many."""
    settings = required_settings("postgresql")
    assert isinstance(settings, PostgreSQLSettings)  # noqa: S101 - the name decides the type
    request = read_request()
    with connect(settings) as connection:
        removed = Seed.remove(connection)
        if action == "add":
            Seed(request["mark"]).insert(connection)
    answer({"removed": removed})


@agent_group.command("try-redis")
@click.argument("server", type=click.Choice(get_args(RedisServer)))
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def try_redis_command(server: RedisServer, path: Path) -> None:
    """Fail when the installed server does not start with the settings of a configuration file."""
    try_file(server, path)


@agent_group.command("describe")
def describe_command() -> None:
    """Answer with the version and the row, document and key counts of every engine on this host."""
    result: dict[str, Any] = {}
    for name in NAMES:
        settings = engine_settings(name)
        if settings is not None:
            face = engine(name)
            result[name] = {"version": face.version(settings), "counts": face.counts(settings)}
    answer(result)


agent_group.add_command(agent_backup_group)
agent_group.add_command(agent_migrate_group)
agent_group.add_command(agent_keys_group)
