"""A report as JUnit XML: a testsuite for each area, a testcase for each control on each host."""

from __future__ import annotations

from xml.etree import ElementTree

from dbkeep.checks.control import State
from dbkeep.checks.report import Report, Result

_ELEMENT = {State.FAIL: "failure", State.ERROR: "error", State.NOT_APPLICABLE: "skipped", State.WAIVED: "skipped"}


def junit_xml(report: Report) -> str:
    root = ElementTree.Element("testsuites", name=f"dbkeep check {report.environment}")
    for area in dict.fromkeys(result.area for result in report.results):
        results = [result for result in report.results if result.area == area]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=area,
            timestamp=report.started_at.isoformat(timespec="seconds"),
            tests=str(len(results)),
            failures=_count(results, State.FAIL),
            errors=_count(results, State.ERROR),
            skipped=_count(results, State.NOT_APPLICABLE, State.WAIVED),
            time=f"{sum(result.seconds for result in results):.3f}",
        )
        for result in results:
            _add_case(suite, result)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _count(results: list[Result], *states: State) -> str:
    return str(sum(result.state in states for result in results))


def _add_case(suite: ElementTree.Element, result: Result) -> None:
    name = f"{result.control} {result.title}"
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"{result.area}.{result.host}", name=name, time=f"{result.seconds:.3f}"
    )
    properties = ElementTree.SubElement(case, "properties")
    for key, value in (("severity", result.severity.value), ("sources", ", ".join(result.sources))):
        ElementTree.SubElement(properties, "property", name=key, value=value)
    if result.state in _ELEMENT:
        prefix = f"waived by {result.waiver['owner']}: " if result.state is State.WAIVED and result.waiver else ""
        detail = ElementTree.SubElement(case, _ELEMENT[result.state], message=prefix + result.message)
        if result.fix:
            detail.text = f"{result.host}: {result.message}\nfix: {result.fix}\nobserved: {result.observed}"
