"""The closing table of `dbkeep up`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from dbkeep.environment import Environment, read_environment
from dbkeep.up import Result


def show_result(result: Result) -> None:
    """Print what was provisioned, the backup and drill, the checks, the time of each stage and what to type next."""
    # A log file has no width of its own: a row stays a line there.
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    environment = read_environment(result.environment)
    for table in (_provisioned(result, environment), _proved(result), _stages(result)):
        console.print(table)
        console.print()
    console.print(f"Next: ./dbkeep check -e {result.environment}    what is checked, and what was seen")
    console.print(
        f"      ./dbkeep plan -e {result.environment}     what differs from the files in sql/, mongo/, redis/"
    )
    console.print(f"      ./dbkeep lab ssh {result.hosts[0]['name']}    a shell on the host")
    console.print("      ./dbkeep down           stop it; `down --purge` removes it")


def _ports(environment: Environment) -> dict[str, str]:
    v: dict[str, Any] = environment.variables
    return {
        "postgresql": str(v["postgresql_port"]),
        "mongodb": str(v["mongodb_port"]),
        "redis": f"{v['redis_state_port']} state, {v['redis_cache_port']} cache",
        "chat_api": str(v["chat_api_port"]),
    }


def _provisioned(result: Result, environment: Environment) -> Table:
    table = Table("provisioned", "version", "host", "address", "port (TLS)", "holds", title=None, box=None)
    ports = _ports(environment)
    for engine, facts in result.provisioned.items():
        holds = ", ".join(f"{count} {what.split('.')[-1]}" for what, count in facts["counts"].items() if count)
        table.add_row(engine, facts["version"], facts["host"], facts["address"], ports[engine], holds)
    for host in environment.hosts("chat_api"):
        what = "sample users: inventory/" + result.environment + "/.sample-users.json"
        table.add_row("chat_api", version("dbkeep"), host.name, host.address, ports["chat_api"], what)
    return table


def _proved(result: Result) -> Table:
    table = Table("proved", "result", box=None)
    backup, drill, checks = result.backup, result.drill, result.checks
    table.add_row("backup set", f"{backup['set_id']}: {', '.join(backup['engines'])}")
    table.add_row("drill", f"{drill['result']}, engines restored after {drill['rto_seconds']:.1f} s")
    states = ", ".join(f"{count} {state}" for state, count in checks.items() if count and state != "controls")
    table.add_row("checks", f"{checks['controls']} controls: {states}")
    return table


def _stages(result: Result) -> Table:
    table = Table("stage", "seconds", box=None)
    for name, seconds in result.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
    table.add_row("all", f"{sum(result.seconds.values()):.1f}")
    return table
