"""Runs the controls of checks/ on an environment: pytest inside, a Report outside."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dbkeep.checks import fixtures
from dbkeep.checks.control import AREAS, Control
from dbkeep.checks.plugin import ChecksPlugin
from dbkeep.checks.report import Report, Result, make_report
from dbkeep.checks.waivers import Waivers, read_waivers
from dbkeep.environment import Environment, Host
from dbkeep.errors import UsageError
from dbkeep.remote import ssh_command


def areas_of(engines: Sequence[str]) -> tuple[str, ...]:
    """Return the folders of checks/ that ask about the named engines; every folder without a name."""
    if not engines:
        return tuple(AREAS)
    wanted = set(engines) | ({"isolation"} if "postgresql" in engines else set())
    return tuple(area for area in AREAS if area in wanted)


def run_checks(
    environment: Environment,
    folder: Path,
    *,
    engines: Sequence[str] = (),
    ids: Sequence[str] = (),
    on_result: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Ask every selected control of `folder` about every host it concerns.

    Raises UsageError when the selection is empty, a control is malformed or a host cannot be reached.
    """
    require_reachable(environment.all_hosts)
    return ask(environment, folder, engines=engines, ids=ids, on_result=on_result)


def ask(
    environment: Environment,
    folder: Path,
    *,
    engines: Sequence[str] = (),
    ids: Sequence[str] = (),
    on_result: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Do as run_checks, for hosts that are known to be reachable."""
    plugin = ChecksPlugin(environment, _waivers(environment), areas=areas_of(engines), ids=ids, on_result=on_result)
    started = datetime.datetime.now(datetime.UTC)
    _run_pytest(folder, plugin)
    return make_report(environment.name, started, plugin.results, plugin.versions)


def list_controls(environment: Environment, folder: Path) -> dict[str, tuple[str, Control]]:
    """Return area and control by id, without asking any."""
    plugin = ChecksPlugin(environment, _waivers(environment), run=False)
    _run_pytest(folder, plugin)
    return plugin.controls


def _waivers(environment: Environment) -> Waivers:
    return read_waivers(environment.path, [host.name for host in environment.all_hosts])


def _run_pytest(folder: Path, plugin: ChecksPlugin) -> None:
    # Plugins that happen to be installed (parallel runs, fuzzers, coverage) have no part in evidence.
    options = ["--disable-plugin-autoload", "-p", "no:terminal", "-p", "no:cacheprovider"]
    configuration = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder)]
    known = set(sys.modules)
    status = pytest.main([*configuration, *options, str(folder)], plugins=[plugin, fixtures])
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder}/"):
            del sys.modules[name]  # a second run in this process reads the files again
    if plugin.problem is not None:
        raise plugin.problem
    if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise UsageError(f"{folder}: pytest could not run the controls (exit status {int(status)})")
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt


def require_reachable(hosts: Sequence[Host]) -> None:
    """Open the shared SSH connection to every host, side by side; raises UsageError naming those that fail."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = [problem for problem in pool.map(_reach, hosts) if problem]
    if problems:
        raise UsageError("; ".join(problems))


def _reach(host: Host) -> str | None:
    done = subprocess.run(
        [*ssh_command(host), "sudo", "-n", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"{host.name} ({host.address}) cannot be checked: {reason}; is it up, and does SSH reach it?"
