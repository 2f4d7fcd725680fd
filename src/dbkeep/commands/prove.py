"""`dbkeep prove`: the isolation of an engine, proved by attacking it as every role."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click
import psycopg
from rich.console import Console

from dbkeep import evidence
from dbkeep.checks.run import require_reachable
from dbkeep.commands.plan import json_option
from dbkeep.engines import declared_state
from dbkeep.environment import Environment, checkout, read_environment
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql import read_declared
from dbkeep.postgresql.connect import one_line
from dbkeep.postgresql.models import Context, Declared
from dbkeep.postgresql.prove import budget as budgets
from dbkeep.postgresql.prove import matrix, registry, server
from dbkeep.postgresql.prove.budget import Budget
from dbkeep.postgresql.prove.live import live
from dbkeep.postgresql.prove.mutation import Outcome, mutate
from dbkeep.postgresql.prove.probe import Probe, Result, run
from dbkeep.postgresql.prove.report import Report
from dbkeep.postgresql.prove.score import Score
from dbkeep.postgresql.prove.text import print_report
from dbkeep.postgresql.prove.world import World

THROW_AWAY = "throw-away"


@click.command("prove")
@click.argument("engine", type=click.Choice(("postgresql",)))
@click.option("-e", "--environment", "environment_name", metavar="ENV", help="Its live server, not a throw-away one.")
@click.option("--context", type=click.Choice(("plain", "signed")), help="How the API must say whom it acts for.")
@click.option("--version", type=int, metavar="N", help="The server's major version; the newest installed without it.")
@click.option("--probes", metavar="ID,ID", default="", help="Only these probes, and no mutants.")
@click.option("--no-mutants", is_flag=True, help="Do not break copies to see whether the probes notice.")
@json_option
def prove_command(
    *,
    engine: str,  # noqa: ARG001 - there is one so far
    environment_name: str | None,
    context: Context | None,
    version: int | None,
    probes: str,
    no_mutants: bool,
    as_json: bool,
) -> None:
    """Attack PostgreSQL as every role, and break copies of it to see whether that is noticed.

    The server is a throw-away one that is as declared here, or the live one of an environment: there every attempt is
    rolled back, and nothing is broken. Exit 0: nothing was found and every mutant was caught; 1: otherwise.
    """
    started = evidence.now()
    if environment_name and (version or context):
        raise UsageError("--version and --context are for a throw-away server: leave them out, or leave out -e")
    environment = read_environment(environment_name) if environment_name else None
    declared = _declared(environment) if environment else read_declared(checkout(), context)
    asked = registry.select([name.strip() for name in probes.split(",") if name.strip()])
    budget = budgets.read(checkout(), declared, registry.ALL)
    with _Progress(quiet=as_json) as progress:
        if environment:
            report = _attack_live(environment, declared, asked, budget, progress)
        else:
            report = _attack_copy(declared, asked, budget, version, progress)
            if probes or no_mutants:
                report = replace(report, why_not_mutated="not asked for")
            elif not report.passed:
                report = replace(report, why_not_mutated="until the probes pass, what they catch means nothing")
            else:
                report = replace(report, score=_mutate(declared, asked, budget, version, progress))
    path = _keep(report, started, environment_name or THROW_AWAY)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        console = _console()
        print_report(report, console)
        console.print(f"evidence: {path.relative_to(checkout())}")
    raise SystemExit(0 if report.passed else 1)


def _declared(environment: Environment) -> Declared:
    return Declared.model_validate(declared_state("postgresql", checkout(), environment.variables))


def _attack_copy(
    declared: Declared, asked: Sequence[Probe], budget: Budget, version: int | None, progress: _Progress
) -> Report:
    progress.say("starting a server as declared")
    with server.start(declared, version=version) as made, made.world() as world:
        return _attack(world, asked, budget, "a throw-away server as declared", progress)


def _attack_live(
    environment: Environment, declared: Declared, asked: Sequence[Probe], budget: Budget, progress: _Progress
) -> Report:
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]  # variables of the person's shell must not stand in for what is left out on purpose
    progress.say(f"reaching {environment.name}")
    require_reachable(environment.all_hosts)
    with live(environment, declared) as world:
        tried = [probe for probe in asked if probe.live]
        report = _attack(world, tried, budget, f"the live server of {environment.name}", progress)
    return replace(
        report,
        not_tried=[probe for probe in asked if not probe.live],
        judge_unused=False,
        why_not_mutated="a live server is not broken",
    )


def _attack(world: World, asked: Sequence[Probe], budget: Budget, where: str, progress: _Progress) -> Report:
    progress.say("trying every privilege of every role")
    try:
        cells = list(matrix.observe(world))
        number = world.session(world.login_roles[0]).info.parameter_status("server_version") or ""
    except psycopg.Error as error:
        raise DbkeepError(f"{where}: {one_line(error)}: see `dbkeep check`") from None
    results: list[Result] = []
    for probe in asked:
        progress.say(f"{probe.id} {probe.title}")
        results += run(world, [probe])
    return Report(where, number, cells, results, budget)


def _mutate(
    declared: Declared, asked: Sequence[Probe], budget: Budget, version: int | None, progress: _Progress
) -> Score:
    return Score(
        mutate(
            declared,
            asked,
            budget,
            version=version,
            on_start=progress.expect,
            on_outcome=progress.count,
        )
    )


def _keep(report: Report, started: datetime, folder: str) -> Path:
    record = evidence.record("prove", started=started, passed=report.passed, observed=report.as_json())
    return evidence.write(record, checkout() / "evidence" / folder)


def _console() -> Console:
    """Return standard output as a console: as wide as the terminal, and wide enough for a line each in a file."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=180)


class _Progress:
    """Says on a terminal's standard error what is being tried."""

    def __init__(self, *, quiet: bool) -> None:
        self._status = Console(stderr=True, quiet=quiet).status("")
        self._mutants = self._done = self._survived = 0

    def __enter__(self) -> _Progress:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def say(self, text: str) -> None:
        self._status.update(text)

    def expect(self, mutants: int) -> None:
        self._mutants = mutants

    def count(self, outcome: Outcome) -> None:
        self._done += 1
        self._survived += outcome.caught is None
        self.say(f"{self._done} of {self._mutants} mutants, {self._survived} survived, the last {outcome.mutant.name}")
