"""`dbkeep check`: asks every control of checks/ about the hosts of an environment."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dbkeep.checks.control import AREAS
from dbkeep.checks.junit import junit_xml
from dbkeep.checks.prometheus import prometheus_text
from dbkeep.checks.report import Report, Result, write_private, write_shared
from dbkeep.checks.run import list_controls, run_checks
from dbkeep.checks.text import print_report
from dbkeep.commands.plan import environment_option
from dbkeep.engines import NAMES
from dbkeep.environment import Environment, checkout, read_environment
from dbkeep.errors import UsageError


@click.command("check")
@environment_option
@click.argument("controls", nargs=-1, metavar="[CONTROL]...")
@click.option(
    "--engine", "engines", multiple=True, type=click.Choice(NAMES), help="Only this engine's; may be repeated."
)
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; - is standard output.")
@click.option("--junit", "junit_file", metavar="FILE", type=click.Path(path_type=Path), help="Write it as JUnit XML.")
@click.option(
    "--prometheus", "metrics_file", metavar="FILE", type=click.Path(path_type=Path),
    help="Write metrics for the textfile collector of the node exporter.",
)  # fmt: skip
@click.option("--list", "only_list", is_flag=True, help="Name the controls without asking them.")
def check_command(
    *,
    environment_name: str,
    controls: tuple[str, ...],
    engines: tuple[str, ...],
    json_file: str | None,
    junit_file: Path | None,
    metrics_file: Path | None,
    only_list: bool,
) -> None:
    """Prove that an environment is as it should be. Exit 0: clean; 1: findings; 2: a control could not be answered."""
    environment = read_environment(environment_name)
    if only_list:
        return _print_controls(environment)
    for file in (Path(json_file) if json_file and json_file != "-" else None, junit_file, metrics_file):
        if file and not file.absolute().parent.is_dir():
            raise UsageError(f"{file}: its folder does not exist; make it, or name another file")
    with _Progress(quiet=json_file == "-") as progress:
        report = run_checks(environment, checkout() / "checks", engines=engines, ids=controls, on_result=progress.add)
    _keep(report)
    if junit_file:
        write_private(junit_file, junit_xml(report))
    if metrics_file:
        write_shared(metrics_file, prometheus_text(report))
    if json_file == "-":
        click.echo(report.as_json(), nl=False)
    else:
        if json_file:
            write_private(Path(json_file), report.as_json())
        print_report(report, _console())
    raise SystemExit(report.exit_code)


def _keep(report: Report) -> None:
    folder = checkout() / "evidence" / report.environment
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / f"check-{report.started_at:%Y%m%dT%H%M%SZ}.json", report.as_json())


def _print_controls(environment: Environment) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("control", "area", "severity", "question", "sources"):
        table.add_column(heading)
    controls = list_controls(environment, checkout() / "checks").values()
    for area, control in sorted(controls, key=lambda entry: (list(AREAS).index(entry[0]), entry[1].id)):
        table.add_row(control.id, area, control.severity.value, control.title, ", ".join(control.sources))
    _console().print(table)


def _console() -> Console:
    """Return standard output as a console: as wide as the terminal, and wide enough for a line each in a file."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=180)


class _Progress:
    """Says on a terminal's standard error how many answers are in."""

    def __init__(self, *, quiet: bool) -> None:
        self._status = Console(stderr=True, quiet=quiet).status("reaching the hosts")
        self._count = 0

    def __enter__(self) -> _Progress:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def add(self, result: Result) -> None:
        self._count += 1
        self._status.update(f"{self._count} answers, the last {result.control} on {result.host}")
