"""Shows a proof to a person: the matrix, a line for each probe with what it found, the leak budget, the score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dbkeep.prove.matrix import Cell
from dbkeep.prove.probe import Finding, Result
from dbkeep.prove.report import Report

MOST_FINDINGS = 8


def print_report(report: Report, console: Console) -> None:
    console.print(f"[bold]{escape(report.engine)} {escape(report.version)}[/], {escape(report.where)}\n")
    _print_matrix(report, console)
    _print_probes(report, console)
    _print_budget(report, console)
    _print_score(report, console)
    findings = len(report.disagreements) + sum(len(report.budget.beyond(result)) for result in report.results)
    unable = sum(result.problem is not None for result in report.results)
    style = "green" if report.passed else "bold red"
    words = [f"{len(report.results)} probes", f"{findings} findings outside the leak budget"]
    words += [f"{unable} could not tell"] if unable else []
    words += [f"{len(report.unused)} entries of the leak budget without a leak"] if report.unused else []
    words += [report.score.line()] if report.score else []
    console.print(f"[{style}]{'; '.join(words)}[/]")


def _print_matrix(report: Report, console: Console) -> None:
    matrix = report.matrix
    console.print(f"[bold]Who may do what[/]: {escape(matrix.legend)}")
    actions = ["may"] if matrix.in_words else list(dict.fromkeys(cell.action for cell in matrix.cells))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("role", matrix.target, *actions):
        table.add_column(heading, no_wrap=not matrix.in_words)
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in matrix.cells:
        rows.setdefault((cell.role, cell.target), []).append(cell)
    shown = {key: cells for key, cells in rows.items() if not all(cell.is_empty and cell.agrees for cell in cells)}
    last = ""
    for (role, target), cells in shown.items():
        texts = [_words_of(cells)] if matrix.in_words else [_text(cell) for cell in cells]
        table.add_row(role if role != last else "", target, *texts)
        last = role
    console.print(table)
    more = len(rows) - len(shown)
    console.print(f"{more} more pairs of role and {matrix.target}: nothing declared, granted or possible")
    console.print(f"not to be tried: {sum(not cell.is_tried for cell in matrix.cells)} cells, shown as ?\n")
    for finding in report.disagreements:
        console.print(f"  [bold red]matrix[/] {escape(str(finding).strip())}")


def _text(cell: Cell) -> str:
    if cell.is_empty and cell.agrees:
        return "[dim]-[/]"
    return escape(cell.text) if cell.agrees else f"[bold red]{escape(cell.text)}[/]"


def _words_of(cells: Sequence[Cell]) -> str:
    return ", ".join(_text(cell) for cell in cells if not (cell.is_empty and cell.agrees))


def _print_probes(report: Report, console: Console) -> None:
    for result in report.results:
        console.print(f"{result.probe.id}  {_state(report, result)}  {escape(result.probe.title)}")
        for note in result.notes:
            console.print(f"       [dim]{escape(note)}[/]")
        for finding, count in Counter(report.budget.beyond(result)).most_common(MOST_FINDINGS):
            console.print(f"       [red]{escape(_words(finding))}[/]{f' ({count} times)' if count > 1 else ''}")
        more = len(set(report.budget.beyond(result))) - MOST_FINDINGS
        if more > 0:
            console.print(f"       [red]and {more} more: see the evidence[/]")
        if result.problem:
            console.print(f"       [magenta]{escape(result.problem)}[/]")
    for probe in report.not_tried:
        console.print(f"{probe.id}  [dim]not tried[/]  {escape(probe.title)}")
    if report.not_tried:
        console.print("not tried on a live server is what would commit, or take connections from the application")
    console.print()


def _words(finding: Finding) -> str:
    return f"{finding.role}, {finding.target}: {finding.observed}"


def _state(report: Report, result: Result) -> str:
    if report.budget.beyond(result):
        return "[bold red]found [/]"
    if result.problem:
        return "[bold magenta]cannot tell[/]"
    return "[yellow]budget[/]" if result.findings else "[green]pass  [/]"


def _print_budget(report: Report, console: Console) -> None:
    if not report.budget.leaks:
        return
    console.print(f"[bold]Leak budget[/] ({report.budget.file}): declared roles, and those observed")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("leak", "probe", "declared", "observed"):
        table.add_column(heading)
    for name, leak in report.budget.leaks.items():
        asked = any(result.probe.id == leak.probe for result in report.results)
        observed = ", ".join(report.observed(name)) or "-"
        table.add_row(name, leak.probe, ", ".join(sorted(leak.roles)), observed if asked else "not asked")
    console.print(table)
    for unused in report.unused:
        console.print(f"  [yellow]{escape(str(unused))}[/]")
    console.print()


def _print_score(report: Report, console: Console) -> None:
    if report.score is None:
        console.print(f"No mutants: {escape(report.why_not_mutated)}\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "mutants of",
        "number",
        "caught by an attempt",
        "by a catalog only",
        "survived",
        "named by the plan",
    ):
        table.add_column(heading, justify="left" if heading == "mutants of" else "right")
    for kind in report.score.kinds():
        counts = (kind.mutants, kind.by_attempt, kind.by_catalog_only, kind.survived, kind.named_by_plan)
        table.add_row(kind.name, *(str(count) for count in counts))
    console.print(table)
    for outcome in report.score.survivors:
        console.print(f"  [bold red]survived[/] {escape(outcome.mutant.name)}")
    console.print()
