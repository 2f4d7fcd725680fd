"""`dbkeep migrate`: the migrations of sql/migrations or mongo/migrations, on the servers of an environment."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dbkeep.commands.plan import engine_hosts, environment_option, json_option, show_change, show_progress
from dbkeep.engines import declared_state
from dbkeep.environment import checkout, read_environment
from dbkeep.errors import UsageError
from dbkeep.postgresql import Declared, read_declared
from dbkeep.postgresql.migrations.locks import remarks
from dbkeep.postgresql.models import Migration
from dbkeep.remote import call

console = Console(highlight=False, soft_wrap=True)
COLOURS = {"applied": "green", "pending": "yellow", "edited": "red", "missing": "red"}
engine_option = click.option(
    "--engine", type=click.Choice(("postgresql", "mongodb")), default="postgresql", show_default=True
)


@click.group("migrate")
def migrate_group() -> None:
    """Show, apply and take back the migrations of PostgreSQL or MongoDB."""


@migrate_group.command("status")
@environment_option
@engine_option
@json_option
def status_command(environment_name: str, engine: str, as_json: bool) -> None:
    """List the migrations. Exit 0: all are applied; 1: one is pending, edited or missing."""
    found = _ask(environment_name, engine, "status")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        table = Table("migration", "state", "applied", box=None, pad_edge=False)
        for entry in found["migrations"]:
            state = entry["state"]
            table.add_row(entry["id"], f"[{COLOURS[state]}]{state}[/]", entry["applied_at"] or "")
        console.print(table)
    raise SystemExit(1 if any(entry["state"] != "applied" for entry in found["migrations"]) else 0)


@migrate_group.command("up")
@environment_option
@engine_option
@click.option("--to", metavar="ID", help="Apply no migration newer than this one.")
@json_option
def up_command(environment_name: str, engine: str, to: str | None, as_json: bool) -> None:
    """Apply the pending migrations. Exit 0: they are applied; 1: one is refused or failed."""
    _show(engine, _ask(environment_name, engine, "up", to=to), as_json=as_json)


@migrate_group.command("down")
@environment_option
@engine_option
@click.option("--to", metavar="ID", help="Take back all that are newer than this one; without it only the newest.")
@click.option("--allow-destructive", is_flag=True, help="Do it; without this only what would be lost is said.")
@json_option
def down_command(environment_name: str, engine: str, to: str | None, allow_destructive: bool, as_json: bool) -> None:
    """Take the newest migration back by its rollback or `down`. Exit 0: done; 1: held back, refused or failed."""
    _show(engine, _ask(environment_name, engine, "down", to=to, allow_destructive=allow_destructive), as_json=as_json)


@migrate_group.command("sql")
@environment_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="Every migration; needs no server.")
@click.option("--rollback", is_flag=True, help="The scripts that take them back.")
@json_option
def sql_command(environment_name: str, ids: tuple[str, ...], every: bool, rollback: bool, as_json: bool) -> None:
    """Print the pending migrations of PostgreSQL for review, or those named, with what each statement locks."""
    declared = read_declared(checkout())
    chosen = _chosen(declared, ids, environment_name, every=every)
    scripts = [_script(migration, rollback=rollback) for migration in chosen]
    if as_json:
        click.echo(json.dumps({"migrations": scripts}, indent=2))
        return
    for script in scripts:
        click.echo(f"-- {script['path']}")
        for remark in script["locks"]:
            click.echo(f"-- line {remark['line']}: {remark['statement']}: {remark['locks']}")
        click.echo(script["sql"])


def _chosen(declared: Declared, ids: tuple[str, ...], environment_name: str, *, every: bool) -> list[Migration]:
    known = {migration.id: migration for migration in declared.migrations}
    unknown = [name for name in ids if name not in known]
    if unknown:
        raise UsageError(f"there is no migration {unknown[0]!r} in sql/migrations")
    if every or ids:
        return [migration for migration in declared.migrations if every or migration.id in ids]
    found = _ask(environment_name, "postgresql", "status")["migrations"]
    return [known[entry["id"]] for entry in found if entry["state"] == "pending"]


def _script(migration: Migration, *, rollback: bool) -> dict[str, Any]:
    path = migration.path.removesuffix(".sql") + ".rollback.sql" if rollback else migration.path
    text = migration.rollback if rollback else migration.sql
    locks = [{"line": remark.line, "statement": remark.head, "locks": remark.locks} for remark in remarks(text, path)]
    return {"id": migration.id, "path": path, "locks": locks, "sql": text}


def _ask(environment_name: str, engine: str, word: str, **more: Any) -> dict[str, Any]:
    """Return the agent's answer with its host."""
    environment = read_environment(environment_name)
    _, host = engine_hosts(environment, (engine,))[0]
    declared = declared_state(engine, checkout(), environment.variables)
    request = {"engine": engine, "declared": declared.model_dump(mode="json"), **more}
    return {"host": host.name, **call(host, ["migrate", word], request, on_progress=show_progress)}


def _show(engine: str, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        console.print(f"[bold]{engine}[/] on {escape(result['host'])}: {len(result['applied'])} changes applied")
        for change in result["applied"]:
            show_change(change, statement=False)
        if result["held"]:
            console.print("  held back until --allow-destructive:")
            for change in result["held"]:
                show_change(change, statement=True)
    raise SystemExit(1 if result["held"] else 0)
