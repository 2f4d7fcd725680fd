"""A report as text, JSON and JUnit XML."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import pytest
from rich.console import Console
from tests.unit.checks.conftest import Controls

from dbkeep.checks.junit import junit_xml
from dbkeep.checks.report import Report
from dbkeep.checks.text import print_report


@pytest.fixture
def report(controls: Controls) -> Report:
    controls.add("environment/a.py", "def test_a(observe):\n    observe(seen='[red]<1>')\n", control="A-1")
    controls.add(
        "environment/b.py",
        "def test_b(observe):\n    observe(x=1)\n    assert 0, 'port [5432] <open>'\n",
        control="A-2",
    )
    controls.add("environment/c.py", "def test_c():\n    not_applicable('no clock here')\n", control="A-3")
    controls.add("environment/d.py", "def test_d(observe):\n    observe(x=1)\n    assert 0, 'known'\n", control="A-4")
    controls.add("environment/e.py", "def test_e():\n    raise OSError('no answer')\n", control="A-5")
    controls.add("environment/f.py", "def test_f():\n    raise OSError('no answer')\n", control="A-6")
    controls.waive("""
        waivers:
          - {control: A-4, owner: Ada, reason: gone in the next release, expires: 2999-12-31}
    """)
    return controls.ask()


def test_text_names_what_where_and_how_to_fix(report: Report) -> None:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=200))
    text = stream.getvalue()
    assert "fail A-2 on controller\n  what: port [5432] <open>\n  fix:  do this" in text
    assert "not-applicable A-3 on controller: no clock here" in text
    assert "waived A-4 on controller: known; Ada until 2999-12-31: gone in the next release" in text
    assert "error A-5, A-6 on controller\n  what: OSError: no answer" in text
    assert "6 controls on test in" in text
    assert "1 pass, 1 fail, 2 error, 1 not-applicable, 1 waived" in text


def test_json_is_versioned_says_who_and_when_and_reads_back(report: Report) -> None:
    document = json.loads(report.as_json())
    assert (document["schema"], document["environment"]) == ("dbkeep.check/1", "test")
    assert document["by"]
    assert document["versions"]["controller"]["dbkeep"]
    assert document["summary"]["fail"] == 1
    assert document["results"][0]["observed"] == {"seen": "[red]<1>"}
    assert document["results"][0]["sources"] == ["a source"]
    assert Report.model_validate_json(report.as_json()) == report


def test_junit_has_a_testcase_for_each_control_and_host(report: Report) -> None:
    root = ElementTree.fromstring(junit_xml(report).partition("\n")[2])  # noqa: S314 - our own text
    (suite,) = root
    assert suite.attrib["tests"] == "6"
    assert (suite.attrib["failures"], suite.attrib["errors"], suite.attrib["skipped"]) == ("1", "2", "2")
    cases = {case.attrib["name"].split()[0]: case for case in suite}
    failure = cases["A-2"].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "port [5432] <open>"
    assert "fix: do this" in (failure.text or "")
    assert cases["A-1"].attrib["classname"] == "environment.controller"
    skipped = cases["A-4"].find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"].startswith("waived by Ada: ")
