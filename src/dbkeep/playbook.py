"""Runs a playbook against an environment and says how far it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbkeep.child import contained
from dbkeep.environment import ansible_environment, checkout
from dbkeep.errors import DbkeepError

_TASK = re.compile(r"^TASK \[(?P<name>.*)\] \**$")
_RECAP = re.compile(r"^(?P<host>\S+)\s+: (?P<counts>ok=\d+ .*)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Recap:
    """What a playbook run did: for each host Ansible's own counts (ok, changed, unreachable, failed, ...)."""

    hosts: dict[str, dict[str, int]]
    tasks: int

    @property
    def changed(self) -> int:
        return sum(counts["changed"] for counts in self.hosts.values())


def run_playbook(
    playbook: str,
    environment: str,
    *,
    log: Path,
    arguments: Sequence[str] = (),
    on_task: Callable[[str], None] = lambda _: None,
) -> Recap:
    """Run playbooks/`playbook` against inventory/`environment`, its output in the file `log`; return the recap.

    `on_task` is called with the name of each task as it starts. Raises DbkeepError with the failed task and its
    message when a host fails or cannot be reached.
    """
    root = checkout()
    inventory = root / "inventory" / environment
    program = str(Path(sys.executable).parent / "ansible-playbook")
    command = [program, "-i", str(inventory), f"playbooks/{playbook}", *arguments]
    hosts: dict[str, dict[str, int]] = {}
    failure, task, tasks = "", "", 0
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch(mode=0o600)
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            contained(command) if os.geteuid() == 0 else command,
            cwd=root,
            env={**ansible_environment(inventory, root), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        for raw in process.stdout or ():
            file.write(raw)
            file.flush()
            line = _COLOUR.sub("", raw.rstrip())
            if match := _TASK.match(line):
                task, tasks = match["name"], tasks + 1
                on_task(task)
            elif match := _RECAP.match(line):
                hosts[match["host"]] = _counts(match["counts"])
            elif line.startswith(("fatal:", "[ERROR]", "ERROR!")) and not failure:
                failure = f"task {task!r}: {line}" if task else line
    if process.returncode != 0:
        raise DbkeepError(
            f"playbooks/{playbook} failed on inventory/{environment}: {failure or 'no reason given'}; whole log: {log}"
        )
    return Recap(hosts, tasks)


def _counts(text: str) -> dict[str, int]:
    return {key: int(value) for key, value in (pair.split("=") for pair in text.split())}
