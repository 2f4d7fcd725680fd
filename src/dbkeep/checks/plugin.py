"""The pytest plugin: one item is one control on one host, and its outcome is one of the five states.

It refuses, before anything runs, a control without an id, an id used twice, a selection that selects nothing,
and a waiver of a control that does not exist. A control that passes without having recorded what it observed
is an error: it looked at nothing.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbkeep.checks.control import AREAS, Control, NotApplicable, State
from dbkeep.checks.report import Result
from dbkeep.checks.waivers import Waivers, require_known_controls
from dbkeep.environment import Environment, Host
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redaction import WITHHELD, holds_secret, redact, secret_values

CONTROLLER = "controller"
ENVIRONMENT = pytest.StashKey[Environment]()
WAIVERS = pytest.StashKey[Waivers]()
OBSERVED = pytest.StashKey[dict[str, Any]]()
VERSIONS = pytest.StashKey[dict[str, dict[str, str]]]()

Observe = Callable[..., None]


class ChecksPlugin:
    """Collects `results` of one run over one environment; `problem` is why nothing ran."""

    def __init__(
        self,
        environment: Environment,
        waivers: Waivers,
        *,
        areas: Sequence[str] = tuple(AREAS),
        ids: Sequence[str] = (),
        run: bool = True,
        on_result: Callable[[Result], None] = lambda _: None,
    ) -> None:
        self.environment = environment
        self.waivers = waivers
        self.areas, self.ids, self.run = areas, ids, run
        self.on_result = on_result
        self.results: list[Result] = []
        self.controls: dict[str, tuple[str, Control]] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.problem: UsageError | None = None
        self._secrets = secret_values(environment.secrets)
        self._observed: dict[str, Any] = {}
        self._outcome: tuple[State, str] | None = None
        self._started = 0.0

    def pytest_configure(self, config: pytest.Config) -> None:
        # Nobody sees tracebacks here, and pytest's own ones parse every file on the stack, at which CPython 3.11 can
        # fail. The option --tb is the terminal's, which has no part in this run.
        config.option.tbstyle = "native"
        config.addinivalue_line("markers", "control(Control): the question that a test function answers")
        config.stash[ENVIRONMENT] = self.environment
        config.stash[WAIVERS] = self.waivers
        config.stash[VERSIONS] = self.versions
        config.stash[OBSERVED] = self._observed

    # Collection

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        hosts = self._hosts(_area(metafunc.definition))
        metafunc.parametrize("target", hosts, ids=[_name(host) for host in hosts], indirect=True, scope="session")

    def _hosts(self, area: str) -> list[Host | None]:
        groups = AREAS.get(area, ())
        if groups == (CONTROLLER,):
            return [None]
        return [host for host in self.environment.all_hosts if host.groups.intersection(groups)]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            last = str(report.longrepr).strip().splitlines()[-1].removeprefix("E  ").strip()
            self._refuse(f"{report.nodeid}: cannot be loaded: {last}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._read_controls(items)
        if self.problem is None:
            items[:] = [item for item in items if self._is_selected(item)]
            if not items:
                wanted = ", ".join(self.ids or self.areas)
                self._refuse(f"no control is selected by {wanted} in environment {self.environment.name}")
        if self.problem is not None or not self.run:
            items.clear()

    def _read_controls(self, items: list[pytest.Item]) -> None:
        functions: dict[str, str] = {}
        for item in items:
            path = item.nodeid.partition("[")[0]
            control = _control(item)
            if control is None:
                return self._refuse(f"{path}: the function has no control id; mark it with @control(...)")
            if functions.setdefault(control.id, path) != path:
                return self._refuse(f"{path}: control {control.id} exists already in {functions[control.id]}")
            self.controls[control.id] = (_area(item), control)
        unknown = [name for name in self.ids if name not in self.controls]
        if unknown:
            return self._refuse(f"there is no control {', '.join(unknown)}; `dbkeep check --list` names them")
        try:
            require_known_controls(self.waivers, self.controls.keys(), self.environment.path)
        except UsageError as error:
            self.problem = self.problem or error
        return None

    def _is_selected(self, item: pytest.Item) -> bool:
        control = _control(item)
        return control is not None and _area(item) in self.areas and (not self.ids or control.id in self.ids)

    def _refuse(self, message: str) -> None:
        self.problem = self.problem or UsageError(message)

    # Running

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._observed.clear()
        self._outcome, self._started = None, time.monotonic()
        try:
            return (yield)
        finally:
            self._finish(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
        call: pytest.CallInfo[None],
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        if call.excinfo is not None:
            self._outcome = _judge(call.excinfo.value, call.when)
        elif call.when == "call":
            self._outcome = (State.PASS, "")
        return (yield)

    def _finish(self, item: pytest.Item) -> None:
        control = _control(item)
        if control is None or self._outcome is None:
            return  # interrupted before the item had an outcome
        state, message = self._outcome
        if state is State.PASS and not self._observed:
            state, message = State.ERROR, "the control recorded nothing that it observed"
        evidence = json.dumps(self._observed, ensure_ascii=False, default=str)
        observed = json.loads(evidence)
        if holds_secret(evidence, self._secrets):
            observed = {"withheld": WITHHELD}
            state, message = State.ERROR, "the control observed a secret; evidence must not hold one"
        result = Result(
            control=control.id,
            title=control.title,
            area=_area(item),
            severity=control.severity,
            sources=control.sources,
            host=_name(_target(item)),
            state=state,
            message=redact(message, self._secrets),
            fix=control.fix if state in (State.FAIL, State.ERROR) else "",
            observed=observed,
            seconds=round(time.monotonic() - self._started, 3),
        )
        self._waive(result)
        self.results.append(result)
        self.on_result(result)

    def _waive(self, result: Result) -> None:
        waiver = self.waivers.find(result.control, result.host)
        if waiver is None or result.state is not State.FAIL:
            return
        result.waiver = {"owner": waiver.owner, "reason": waiver.reason, "expires": waiver.expires.isoformat()}
        if waiver.is_expired(datetime.datetime.now(datetime.UTC).date()):
            result.message += f" (the waiver of {waiver.owner} expired on {waiver.expires})"
        else:
            result.state = State.WAIVED


def _judge(error: BaseException, when: str) -> tuple[State, str]:
    if isinstance(error, NotApplicable):
        return State.NOT_APPLICABLE, str(error)
    if isinstance(error, AssertionError) and when == "call":
        return State.FAIL, _first_line(error)
    if isinstance(error, DbkeepError):
        return State.ERROR, str(error)
    return State.ERROR, f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _control(item: pytest.Item) -> Control | None:
    marker = item.get_closest_marker("control")
    if marker and len(marker.args) == 1 and isinstance(marker.args[0], Control):
        return marker.args[0]
    return None


def _area(item: Any) -> str:
    """Return the folder of checks/ that a control file is in."""
    return Path(item.path).parent.name


def _target(item: pytest.Item) -> Host | None:
    target: Host | None = item.callspec.params["target"]  # type: ignore[attr-defined]
    return target


def _name(host: Host | None) -> str:
    return CONTROLLER if host is None else host.name
