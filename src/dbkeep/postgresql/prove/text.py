"""Shows a proof to a person: the matrix, a line for each probe with what it found, the leak budget, the score."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dbkeep.postgresql.prove.matrix import Cell
from dbkeep.postgresql.prove.probe import Finding, Result
from dbkeep.postgresql.prove.report import Report

MOST_FINDINGS = 8


def print_report(report: Report, console: Console) -> None:
    console.print(f"[bold]PostgreSQL {escape(report.version)}[/], {escape(report.where)}\n")
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
    console.print("[bold]Who may do what[/]: declared / granted / observed; a number is one of columns;")
    console.print("* row security lets no row through: the table has no policy for it")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("role", "relation", *dict.fromkeys(cell.privilege for cell in report.cells)):
        table.add_column(heading, no_wrap=True)
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in report.cells:
        rows.setdefault((cell.role, cell.relation), []).append(cell)
    shown = {key: cells for key, cells in rows.items() if not all(cell.is_empty and cell.agrees for cell in cells)}
    last = ""
    for (role, relation), cells in shown.items():
        table.add_row(role if role != last else "", relation, *(_cell(cell) for cell in cells))
        last = role
    console.print(table)
    console.print(f"{len(rows) - len(shown)} more pairs of role and relation: nothing declared, granted or possible")
    console.print(f"not to be tried: {sum(cell.observed is None for cell in report.cells)} cells, shown as ?\n")
    for finding in report.disagreements:
        console.print(f"  [bold red]matrix[/] {escape(str(finding).strip())}")


def _cell(cell: Cell) -> str:
    if cell.is_empty and cell.agrees:
        return "[dim]-[/]"
    text = "/".join(cell.shown(columns) for columns in (cell.declared, cell.granted, cell.observed))
    text += "*" if cell.rowless else ""
    return text if cell.agrees else f"[bold red]{text}[/]"


def _print_probes(report: Report, console: Console) -> None:
    for result in report.results:
        console.print(f"{result.probe.id}  {_state(report, result)}  {escape(result.probe.title)}")
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
    console.print("[bold]Leak budget[/] (sql/leak_budget.yml): declared roles, and those observed")
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
