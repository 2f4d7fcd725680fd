"""A real test host for the whole session, brought up by `./dbkeep up` through a SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dbkeep.environment import Environment, Host, checkout, read_environment
from dbkeep.up import describe

NAME = "test"

# A stage of `dbkeep up` and how many seconds into it the whole command is killed.
KILL = ("Provision by playbooks/site.yml", 45.0)


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def dbkeep(*arguments: str, timeout: float = 900) -> Done:
    """Run ./dbkeep in the checkout without standard input."""
    done = subprocess.run(
        [str(checkout() / "dbkeep"), *arguments],
        cwd=checkout(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass
class Killed:
    """One killed `dbkeep up`: in which stage, and whether that stage ran when the signal came."""

    stage: str
    reached: bool
    said: list[str] = field(default_factory=list)


def kill_up(name: str, stage: str, seconds: float, *options: str) -> Killed:
    """Start `dbkeep up`, wait for `stage`, and kill the command with SIGKILL `seconds` later."""
    process = subprocess.Popen(
        [str(checkout() / "dbkeep"), "up", "--name", name, *options],
        cwd=checkout(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = Killed(stage, reached=False)
    reached = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            killed.said.append(line.rstrip())
            if line.startswith(stage):
                reached.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while process.poll() is None and not reached.wait(0.1):
        pass
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if process.poll() is None:
        killed.reached = reached.is_set()
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reader.join()
    if process.stderr:
        process.stderr.close()
    return killed


def kill_at(step: str, *command: str) -> None:
    """Start `./dbkeep COMMAND` and kill it, with all it started, when it says that it comes to `step`.

    Fails the test when it ends without coming there.
    """
    process = subprocess.Popen(
        [str(checkout() / "dbkeep"), *command],
        cwd=checkout(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    reached = any(line.startswith(step) for line in process.stderr)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert reached, f"dbkeep {' '.join(command)} never came to {step!r}"


@dataclass
class UpLab:
    """The session's lab: its `up --json` result, how it got there, and ways to work on it."""

    name: str
    result: dict[str, Any]
    killed: Killed

    @property
    def environment(self) -> Environment:
        return read_environment(self.name)

    @property
    def host(self) -> Host:
        return self.environment.all_hosts[0]

    def run(self, command: str) -> str:
        """Run a shell command on the host as ops; fails the test if it fails."""
        done = dbkeep("lab", "exec", f"{self.name}-1", command)
        assert done.status == 0, f"{command}: {done.out}{done.err}"
        return done.out

    def counts(self) -> dict[str, dict[str, int]]:
        """Return rows, documents and keys as the live engines count them now."""
        return {name: facts["counts"] for name, facts in describe(self.environment).items()}


@pytest.fixture(scope="session")
def lab() -> Iterator[UpLab]:
    """A provisioned, backed-up and checked host. A host that cannot be made is a failure, never a skip."""
    inventory = Path("inventory") / NAME
    if inventory.is_dir() or dbkeep("lab", "status", "--json").out.count(f'"{NAME}"'):
        assert dbkeep("down", "--purge", "--name", NAME).status == 0
    try:
        killed = kill_up(NAME, *KILL)
        done = dbkeep("up", "--name", NAME, "--json")
        assert done.status == 0, f"dbkeep up ended with {done.status}: {done.err}"
        yield UpLab(NAME, done.json, killed)
    finally:
        down = dbkeep("down", "--purge", "--name", NAME)
        assert down.status == 0, down.err
