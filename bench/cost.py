"""What a piece of work costs: seconds by the clock, and processor seconds of this process, its children and servers.

On a machine that does other work the processor seconds say more.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    wall: float
    client: float
    server: float

    @property
    def cpu(self) -> float:
        return self.client + self.server


def cost_of(work: Callable[[], object], servers: Sequence[int]) -> Cost:
    """Run `work` and return what it cost; `servers` are the process ids of servers that work for it."""
    began, client, server = time.perf_counter(), _own(), sum(map(tree_seconds, servers))
    work()
    return Cost(time.perf_counter() - began, _own() - client, sum(map(tree_seconds, servers)) - server)


def _own() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def tree_seconds(root: int) -> float:
    """Return the processor seconds of a process and all below it, with those of children that ended."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            stats[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    found, pids = 0.0, [root]
    while pids:
        pid = pids.pop()
        found += stats.get(pid, (0, 0.0))[1]
        pids += [child for child, (parent, _) in stats.items() if parent == pid]
    return found


def alternate(sides: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Let the sides take turns, the first one of a round another each time; the costs of each, round by round."""
    found: dict[str, list[Cost]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            found[name].append(sides[name]())
        order.reverse()
    return found


def summary(found: Mapping[str, Sequence[Cost]]) -> dict[str, dict[str, float]]:
    """Return for each side its medians."""
    return {
        name: {
            what: round(statistics.median(getattr(cost, what) for cost in costs), 3)
            for what in ("wall", "cpu", "client", "server")
        }
        for name, costs in found.items()
    }


def peak_mebibytes() -> int:
    """Return the most memory that this process has had resident. Not `ru_maxrss`: it counts what it was forked from."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024
