"""`dbkeep plan`, `apply` and `drift`: the declared state against the live servers of an environment."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from dbkeep.engines import NAMES, declared_state
from dbkeep.environment import Environment, Host, checkout, read_environment
from dbkeep.errors import UsageError
from dbkeep.mongodb.inventory import members
from dbkeep.remote import call

_MARK = {"safe": "green", "locking": "yellow", "rewriting": "yellow", "destructive": "red"}
console = Console(highlight=False, soft_wrap=True)

environment_option = click.option(
    "-e", "--environment", "environment_name", default="lab", show_default=True, metavar="ENV"
)
engines_argument = click.argument("engines", nargs=-1, type=click.Choice(NAMES))
warn_option = click.option(
    "--warn", is_flag=True, help="MongoDB: set a validator that documents break as a warning instead of refusing it."
)
search_option = click.option(
    "--search-seconds", type=click.IntRange(1), metavar="N", help="MongoDB: end a search through documents after N s."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def engine_hosts(environment: Environment, names: tuple[str, ...]) -> list[tuple[str, Host]]:
    """Return each named engine (all without a name) with the first host of its group; the others replicate from it.

    Raises UsageError when a named engine has no host in the environment.
    """
    pairs: list[tuple[str, Host]] = []
    for name in names or NAMES:
        hosts = environment.hosts(name)
        if hosts:
            pairs += [(name, hosts[0])]
        elif names:
            raise UsageError(f"environment {environment.name} has no host in group {name}")
    return pairs


def engine_request(environment: Environment, name: str, **more: Any) -> dict[str, Any]:
    """Return the agent request that carries the checkout's declared state of one engine and its secrets."""
    declared = declared_state(name, checkout(), environment.variables).model_dump(mode="json")
    if name == "mongodb":
        declared["members"] = members(environment)
    return {
        "declared": declared,
        "secrets": environment.secrets.get(name, {}),
        **more,
    }


def read_plans(environment_name: str, engines: tuple[str, ...], **mongodb: Any) -> list[dict[str, Any]]:
    """Return the plans of the named engines, or of all; each with its host. `mongodb` are options for that engine."""
    environment = read_environment(environment_name)
    plans = []
    for name, host in engine_hosts(environment, engines):
        request = engine_request(environment, name, **_options(name, mongodb))
        plans.append({"host": host.name, **call(host, ["plan", name], request)})
    return plans


def _options(name: str, mongodb: dict[str, Any]) -> dict[str, Any]:
    given = {option: value for option, value in mongodb.items() if value}
    return {"options": given} if name == "mongodb" and given else {}


def show_change(change: dict[str, Any], *, statement: bool) -> None:
    risk = change["risk"]
    target, summary = escape(change["target"]), escape(change["summary"])
    console.print(f"  [{_MARK[risk]}]{risk:<11}[/] {change['kind']} [bold]{target}[/]: {summary}")
    if statement:
        for line in change["statement"].splitlines():
            console.print(f"              [dim]{escape(line)}[/]")
    if change["refused"]:
        console.print(f"              [red]refused: {escape(change['refused'])}[/]")
    if change["waits_for"]:
        console.print(f"              [yellow]needs {escape(change['waits_for'])}[/]")


def show_progress(line: str) -> None:
    """Show on a terminal what the agent does meanwhile, such as a wait for a lock; its error becomes the command's."""
    if sys.stderr.isatty() and not line.startswith("dbkeep: "):
        click.echo(line, err=True)


@click.command("plan")
@environment_option
@engines_argument
@click.option("--documents", is_flag=True, help="MongoDB: also search for documents that break their validator.")
@warn_option
@search_option
@json_option
def plan_command(environment_name: str, engines: tuple[str, ...], as_json: bool, **mongodb: Any) -> None:
    """Show what apply would change. Exit 0: nothing; 1: something."""
    _show(read_plans(environment_name, engines, **mongodb), as_json=as_json, statements=True)


@click.command("drift")
@environment_option
@engines_argument
@json_option
def drift_command(environment_name: str, engines: tuple[str, ...], as_json: bool) -> None:
    """Name what on the servers differs from the declared state. Exit 0: nothing; 1: something."""
    _show(read_plans(environment_name, engines), as_json=as_json, statements=False)


def _show(plans: list[dict[str, Any]], *, as_json: bool, statements: bool) -> None:
    if as_json:
        click.echo(json.dumps({"plans": plans}, indent=2))
    else:
        for plan in plans:
            verdict = f"{len(plan['changes'])} changes" if plan["changes"] else "as declared"
            console.print(f"[bold]{plan['engine']}[/] on {plan['host']}: {verdict}")
            for change in plan["changes"]:
                show_change(change, statement=statements)
    raise SystemExit(1 if any(plan["changes"] for plan in plans) else 0)


@click.command("apply")
@environment_option
@engines_argument
@click.option("--allow-destructive", is_flag=True, help="Also run changes that remove something.")
@warn_option
@search_option
@json_option
def apply_command(
    environment_name: str, engines: tuple[str, ...], allow_destructive: bool, as_json: bool, **mongodb: Any
) -> None:
    """Make the servers as declared. Exit 0: they are; 1: changes were held back."""
    environment = read_environment(environment_name)
    results = []
    for name, host in engine_hosts(environment, engines):
        options = _options(name, mongodb)
        request = engine_request(environment, name, allow_destructive=allow_destructive, **options)
        results.append({"host": host.name, **call(host, ["apply", name], request, on_progress=show_progress)})
    if as_json:
        click.echo(json.dumps({"results": results}, indent=2))
    else:
        for result in results:
            console.print(f"[bold]{result['engine']}[/] on {result['host']}: {len(result['applied'])} changes applied")
            for change in result["applied"]:
                show_change(change, statement=False)
            if result["held"]:
                console.print("  held back; what removes something needs --allow-destructive:")
                for change in result["held"]:
                    show_change(change, statement=False)
    raise SystemExit(1 if any(result["held"] for result in results) else 0)
