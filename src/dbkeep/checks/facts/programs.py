"""Runs the programs of a host that know a fact, and reads their answers."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from dbkeep.errors import DbkeepError


def output_of(*command: str) -> str:
    """Return the standard output of a program; raises DbkeepError when it is missing or fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DbkeepError(f"{' '.join(command[:2])}: {error}") from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise DbkeepError(f"{' '.join(command[:2])}: exit status {done.returncode}: {reason}")
    return done.stdout


def json_of(*command: str) -> Any:
    """Return the JSON that a program prints; raises DbkeepError when it prints something else."""
    text = output_of(*command)
    try:
        return json.loads(text)
    except ValueError:
        raise DbkeepError(f"{' '.join(command[:2])}: the answer is not JSON") from None


def properties_of(units: list[str], names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Return systemd's properties `names` of each unit, by unit id."""
    if not units:
        return {}
    text = output_of("systemctl", "show", "--property", ",".join(("Id", *names)), "--", *units)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return {block.pop("Id"): block for block in blocks}


def units_of(*arguments: str) -> list[str]:
    """Return the ids of the units that `systemctl list-units` shows for a pattern or a state."""
    lines = output_of("systemctl", "list-units", "--plain", "--no-legend", "--full", *arguments).splitlines()
    return [line.split()[0] for line in lines]
