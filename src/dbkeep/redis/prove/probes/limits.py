"""P40 to P42: is what one client may cost the server bounded?"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping

from dbkeep.prove.probe import Finding, require
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.attempts import attempt, changed_settings
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK, SECONDS
from dbkeep.redis.prove.world import World
from dbkeep.redis.statements import canonical

SOURCES = ("Redis manual: Client handling", "redis.conf: client-output-buffer-limit, maxmemory-clients")
# More than the declared limits and what the sockets' own buffers take.
VALUE_BYTES, REPLIES = 512 * 1024, 128
PINGS, REPLY_BYTES = 600_000, len("-NOAUTH Authentication required.\r\n")
CHUNK = 1 << 16
# Each layer alone: the other one is taken away. Answers are memory too, for which a cache would evict the value itself.
KEEP = {"maxmemory-policy": "noeviction"}
LAYERS: Mapping[str, Mapping[str, str]] = {
    "both limits": KEEP,
    "maxmemory-clients alone": {**KEEP, "client-output-buffer-limit": "normal 0 0 0"},
    "client-output-buffer-limit alone": {**KEEP, "maxmemory-clients": "0"},
}


@probe("P40", "A client that does not read its answers is closed", area="limits", sources=SOURCES, live=False)
def unread(world: World) -> Iterator[Finding]:
    tried = 0
    for instance in world.instances:
        for user, key in list(_readers(world, instance))[:1]:
            tried += 1
            for layer, changed in LAYERS.items():
                with changed_settings(world.admin(instance), changed):
                    planted = attempt(world.admin(instance), "SET", key, "x" * VALUE_BYTES, "EX", SECONDS)
                    require(planted.answered, f"{instance}: {key} cannot be planted: {planted}")
                    received = _read_late(world, instance, user, f"GET {key}\r\n".encode() * REPLIES)
                    attempt(world.admin(instance), "DEL", key)
                if received >= VALUE_BYTES * REPLIES:
                    yield Finding(user, f"{instance} output", f"{layer}: the server kept {received} bytes for it")
    require(tried, "no user reads a key of its own")


@probe("P41", "Who is not logged on is closed when it does not read its answers", area="limits", live=False,
       sources=(*SOURCES, "CVE-2025-21605"))  # fmt: skip
def unread_by_anybody(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        received = _read_late(world, instance, None, b"PING\r\n" * PINGS)
        if received >= REPLY_BYTES * PINGS:
            yield Finding("(not logged on)", f"{instance} output", f"the server kept {received} bytes for it")


@probe("P42", "A value longer than declared is refused before it is sent", area="limits", sources=SOURCES, live=False)
def long_values(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        longest = int(canonical(world.throw_away.directives(instance)["proto-max-bulk-len"]))
        for user, key in list(_readers(world, instance))[:1]:
            if not _is_refused(world, instance, user, key, longest + 1):
                yield Finding(user, f"{instance} SET", f"may send a value of {longest + 1} bytes")
            require(not _is_refused(world, instance, user, key, longest), f"{instance} refuses {longest} bytes too")


def _readers(world: World, instance: str) -> Iterator[tuple[str, str]]:
    """Yield the users that read keys of their own, with the name of one."""
    for user in world.users(instance):
        for grant in reach.grants_of(world.declared, user, instance):
            if "get" in grant.commands and grant.readwrite:
                yield user, grant.readwrite[0].replace("*", f"{MARK}:long")


def _read_late(world: World, instance: str, user: str | None, requests: bytes) -> int:
    """Send requests before anything is read, and return how many bytes of answers came after all."""
    received = 0
    with world.wire(instance, user) as wire:
        try:
            wire.sendall(requests)
            for _ in range(3):
                attempt(world.admin(instance), "PING")  # by its answers the server has come past the requests
            wire.settimeout(1)
            while some := wire.recv(CHUNK):
                received += len(some)
        except OSError:
            pass
    return received


def _is_refused(world: World, instance: str, user: str, key: str, length: int) -> bool:
    """Announce a value and do not send it: a server that waits for it would take it."""
    with world.wire(instance, user) as wire:
        wire.sendall(f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n${length}\r\n".encode())
        return _says_error(wire)


def _says_error(wire: ssl.SSLSocket) -> bool:
    wire.settimeout(0.5)
    try:
        return wire.recv(64).startswith(b"-")
    except TimeoutError:
        return False
