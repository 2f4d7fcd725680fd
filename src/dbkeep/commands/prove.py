"""`dbkeep prove`: the isolation of an engine, proved by attacking it as every role."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dbkeep import evidence
from dbkeep.checks.run import require_reachable
from dbkeep.commands.plan import json_option
from dbkeep.environment import Environment, checkout, read_environment
from dbkeep.errors import DbkeepError
from dbkeep.prove import engine as engines
from dbkeep.prove.budget import Budget
from dbkeep.prove.engine import Engine
from dbkeep.prove.mutation import Outcome
from dbkeep.prove.probe import Probe, Result, World, run
from dbkeep.prove.report import Report
from dbkeep.prove.score import Score
from dbkeep.prove.text import print_report

THROW_AWAY = "throw-away"


@click.command("prove")
@click.argument("engine", type=click.Choice(engines.NAMES))
@click.option("-e", "--environment", "environment_name", metavar="ENV", help="Its live server, not a throw-away one.")
@click.option("--context", type=click.Choice(("plain", "signed")), help="How the API must say whom it acts for.")
@click.option("--version", type=int, metavar="N", help="The server's major version; the newest installed without it.")
@click.option("--probes", metavar="ID,ID", default="", help="Only these probes, and no mutants.")
@click.option("--no-mutants", is_flag=True, help="Do not break copies to see whether the probes notice.")
@json_option
def prove_command(
    *,
    engine: str,
    environment_name: str | None,
    context: str | None,
    version: int | None,
    probes: str,
    no_mutants: bool,
    as_json: bool,
) -> None:
    """Attack an engine as every role, and break copies of it to see whether that is noticed.

    The server is a throw-away one that is as declared here, or the live one of an environment: there nothing of an
    attempt stays, and nothing is broken. --context and --version are PostgreSQL's. Exit 0: nothing was found and every
    mutant was caught; 1: otherwise.
    """
    started = evidence.now()
    environment = read_environment(environment_name) if environment_name else None
    proved = engines.load(engine, checkout(), environment, {"version": version, "context": context})
    asked = proved.select([name.strip() for name in probes.split(",") if name.strip()])
    budget = proved.budget()
    with _Progress(quiet=as_json) as progress:
        if environment:
            report = _attack_live(proved, environment, asked, budget, progress)
        else:
            report = _attack_copy(proved, asked, budget, progress)
            if probes or no_mutants:
                report = replace(report, why_not_mutated="not asked for")
            elif not report.passed:
                report = replace(report, why_not_mutated="until the probes pass, what they catch means nothing")
            else:
                outcomes = proved.mutate(asked, budget, on_start=progress.expect, on_outcome=progress.count)
                report = replace(report, score=Score(outcomes))
    path = _keep(report, started, environment_name or THROW_AWAY)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        console = _console()
        print_report(report, console)
        console.print(f"evidence: {path.relative_to(checkout())}")
    raise SystemExit(0 if report.passed else 1)


def _attack_copy(proved: Engine, asked: Sequence[Probe[Any]], budget: Budget, progress: _Progress) -> Report:
    progress.say("starting a server as declared")
    with proved.copy() as world:
        return _attack(proved, world, asked, budget, progress, where="a throw-away server as declared")


def _attack_live(
    proved: Engine, environment: Environment, asked: Sequence[Probe[Any]], budget: Budget, progress: _Progress
) -> Report:
    progress.say(f"reaching {environment.name}")
    require_reachable(environment.all_hosts)
    with proved.live(environment) as world:
        tried = [probe for probe in asked if probe.live]
        report = _attack(proved, world, tried, budget, progress, where=f"the live server of {environment.name}")
    return replace(
        report,
        not_tried=[probe for probe in asked if not probe.live],
        judge_unused=False,
        why_not_mutated="a live server is not broken",
    )


def _attack(
    proved: Engine, world: World, asked: Sequence[Probe[Any]], budget: Budget, progress: _Progress, *, where: str
) -> Report:
    progress.say("trying every privilege of every role")
    try:
        version, matrix = proved.observe(world)
    except world.errors as error:
        raise DbkeepError(f"{where}: {world.describe(error)}: see `dbkeep check`") from None
    results: list[Result] = []
    for probe in asked:
        progress.say(f"{probe.id} {probe.title}")
        results += run(world, [probe])
    return Report(proved.title, where, version, matrix, results, budget)


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
