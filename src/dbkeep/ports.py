"""Ports for servers of one's own."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
# Below what the kernel gives to outgoing connections (ip_local_port_range: from 32768): none of them takes the port
# before its server does.
PORTS = range(10_240, 32_768)


def free_ports(number: int, address: str = LOOPBACK) -> list[int]:
    """Return so many ports of `address` that nobody uses now, each another one."""
    chosen = random.SystemRandom()
    found: dict[int, None] = {}
    while len(found) < number:
        port = chosen.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        found[port] = None
    return list(found)


def free_port(address: str = LOOPBACK) -> int:
    """Return a port of `address` that nobody uses now."""
    return free_ports(1, address)[0]
