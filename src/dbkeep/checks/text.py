"""Shows a report to a person: a line for each control, then every finding with what, where and how to fix it."""

from __future__ import annotations

from collections import defaultdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dbkeep.checks.control import AREAS, State
from dbkeep.checks.report import Report, Result

STYLES = {
    State.PASS: "green",
    State.FAIL: "bold red",
    State.ERROR: "bold magenta",
    State.NOT_APPLICABLE: "dim",
    State.WAIVED: "yellow",
}
_WORST_FIRST = (State.ERROR, State.FAIL, State.WAIVED, State.PASS, State.NOT_APPLICABLE)


def print_report(report: Report, console: Console) -> None:
    console.print(_table(report))
    _print_findings(report, console)
    _print_explained(report, console)
    counted = [(state, report.summary[state.value]) for state in State]
    counts = ", ".join(f"[{STYLES[state]}]{count} {state.value}[/]" for state, count in counted if count)
    seconds = (report.finished_at - report.started_at).total_seconds()
    console.print(f"{report.summary['controls']} controls on {report.environment} in {seconds:.1f} s: {counts}")


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("control", "question", "severity", "result", "where"):
        table.add_column(heading, no_wrap=heading != "question")
    for area in AREAS:
        results = [result for result in report.results if result.area == area]
        if results:
            table.add_row(f"[bold]{area}[/]")
        for name in dict.fromkeys(result.control for result in results):
            table.add_row(*_row([result for result in results if result.control == name]))
    return table


def _row(results: list[Result]) -> tuple[str, ...]:
    worst = next(state for state in _WORST_FIRST if any(result.state is state for result in results))
    hosts = [result.host for result in results if result.state is worst]
    first = results[0]
    return (
        f"  {first.control}",
        escape(first.title),
        first.severity.value,
        f"[{STYLES[worst]}]{worst.value}[/]",
        escape(", ".join(hosts) if len(hosts) < 4 else f"{len(hosts)} hosts"),
    )


def _print_findings(report: Report, console: Console) -> None:
    """Print findings; the same words from several controls on one host are one entry (a stopped server, mostly)."""
    groups: dict[tuple[State, str, str], list[Result]] = defaultdict(list)
    for result in report.with_state(State.FAIL, State.ERROR):
        groups[result.state, result.host, result.message].append(result)
    for (state, host, message), results in groups.items():
        names = ", ".join(result.control for result in results)
        console.print(f"\n[{STYLES[state]}]{state.value}[/] [bold]{names}[/] on {escape(host)}")
        console.print(f"  what: {escape(message)}")
        fix = results[0].fix if len(results) == 1 else "put right what the message says, then run the check again"
        console.print(f"  fix:  {escape(fix)}")


def _print_explained(report: Report, console: Console) -> None:
    explained = report.with_state(State.NOT_APPLICABLE, State.WAIVED)
    if explained:
        console.print()
    for result in explained:
        why = result.message
        if result.waiver:
            why += "; {owner} until {expires}: {reason}".format(**result.waiver)
        what = f"[{STYLES[result.state]}]{result.state.value}[/] {result.control}"
        console.print(f"{what} on {escape(result.host)}: {escape(why)}")
    console.print()
