"""`dbkeep test`: lint, types, and the tests from pure functions to real hosts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from dbkeep.child import contained
from dbkeep.debian_packages import ENGINES, LAB, install_packages, missing_programs
from dbkeep.environment import checkout
from dbkeep.lab.lab import require_root
from dbkeep.sandbox import postgresql_packages, redis_packages

LINT = (
    ("ruff", "check"),
    ("ruff", "format", "--check", "--quiet"),
    ("mypy",),
    ("mypy", "checks", "scripts", "bench", "tests"),
    ("yamllint", "--strict", "."),
    ("ansible-lint", "--offline", "-q"),
    ("squawk", "sql/migrations/*.sql"),
)


@click.command("test")
@click.option("--fast", is_flag=True, help="Only what needs no test host: lint, types, unit, engines, API.")
@click.option("--long", "long_run", is_flag=True, help="Also what takes longer than the daily run.")
def test_command(fast: bool, long_run: bool) -> None:
    """Run the tests. Exit 0 only if all of them ran and passed."""
    root = checkout()
    install_packages((*ENGINES, *missing_programs("npm", "gcc"), *(() if fast else LAB)))
    postgresql_packages.install()
    redis_packages.install()
    if not fast:
        require_root()
    failed = [name for name in map(_lint, LINT) if name]
    folders = ["tests/unit", "tests/engines", "tests/api"]
    selection = "" if long_run else "not long"
    status = _pytest(root, [*folders, "-m", selection, "-n", "2", "--dist", "loadfile"])
    if status == 0 and not fast:
        status = _pytest(root, ["tests/lab", "-m", selection])
    if failed:
        click.echo(f"dbkeep: lint failed: {', '.join(failed)}", err=True)
    raise SystemExit(1 if failed or status else 0)


def _lint(command: tuple[str, ...]) -> str | None:
    """Run one linter over the checkout; return its name if it found something."""
    name = command[0]
    started = time.monotonic()
    program = Path(sys.executable).parent / name
    path = f"{program.parent}:{os.environ.get('PATH', '')}"
    done = subprocess.run([str(program), *command[1:]], cwd=checkout(), env={**os.environ, "PATH": path}, check=False)
    verdict = "clean" if done.returncode == 0 else "FAILED"
    click.echo(f"{' '.join(command)}: {verdict} ({time.monotonic() - started:.1f} s)")
    return None if done.returncode == 0 else name


def _pytest(root: Path, arguments: list[str]) -> int:
    """Run pytest in the checkout; return its exit status. No test collected (status 5) is a failure like any other."""
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(contained(command) if os.geteuid() == 0 else command, cwd=root, check=False).returncode
