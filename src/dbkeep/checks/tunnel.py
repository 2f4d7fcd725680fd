"""An SSH tunnel through the application's host: probes reach the databases on the application's network path."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dbkeep.environment import Host
from dbkeep.errors import UsageError
from dbkeep.ports import free_ports
from dbkeep.remote import ssh_command

Target = tuple[str, int]
ATTEMPTS = 3


@contextmanager
def forward(through: Host, targets: Sequence[Target]) -> Iterator[dict[Target, int]]:
    """Yield the local port that leads to each target (address, port) as seen from the host `through`.

    The tunnel ends with the block, or with this process however that ends. Raises UsageError when SSH refuses it.
    """
    process, ports = _open(through, targets)
    try:
        yield ports
    finally:
        process.terminate()  # left to itself, ssh waits for every forwarded connection to be closed
        process.communicate()


def _open(through: Host, targets: Sequence[Target]) -> tuple[subprocess.Popen[str], dict[Target, int]]:
    reason = "no reason given"
    for _ in range(ATTEMPTS):  # another program may take a free port between our look and ssh's bind
        ports = dict(zip(targets, free_ports(len(targets)), strict=True))
        command = ssh_command(through, tunnel=True)
        options = [f"-L127.0.0.1:{port}:{address}:{remote}" for (address, remote), port in ports.items()]
        # The remote side says when it is there, and ends when our end of its standard input closes.
        process = subprocess.Popen(
            [*command[:-1], *options, command[-1], "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if process.stdout is not None and process.stdout.readline() == "ready\n":
            return process, ports
        reason = (process.communicate()[1].strip().splitlines() or [reason])[-1]
    raise UsageError(
        f"{through.name} ({through.address}): no SSH tunnel to the databases: {reason}; see AllowTcpForwarding there"
    )
