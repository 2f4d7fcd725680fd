"""Mutants of settings: each as the server has it when nobody sets it, and each by something worse."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from dbkeep.redis.connect import connect
from dbkeep.redis.prove.mutants.mutant import Mutant
from dbkeep.redis.prove.world import World
from dbkeep.redis.statements import canonical
from dbkeep.sandbox import redis as sandbox

# What is no longer safe, or does not do what it is declared for, where the default says the same as the declaration.
WORSE: Mapping[str, tuple[str, ...]] = {
    "acl-pubsub-default": ("allchannels",),
    "aof-use-rdb-preamble": ("no",),
    "appendfsync": ("no", "always"),
    "appendonly": ("yes", "no"),
    "client-output-buffer-limit": ("normal 0 0 0 replica 0 0 0 pubsub 0 0 0",),
    "databases": ("16",),
    "enable-debug-command": ("yes", "local"),
    "enable-module-command": ("yes", "local"),
    "enable-protected-configs": ("yes", "local"),
    "loglevel": ("warning", "debug"),
    "maxclients": ("10",),
    "maxmemory": ("0", "1gb"),
    "maxmemory-clients": ("0",),
    "maxmemory-policy": ("noeviction", "allkeys-lru", "allkeys-lfu", "volatile-lru", "allkeys-random"),
    "no-appendfsync-on-rewrite": ("yes",),
    "notify-keyspace-events": ("KEA",),
    "proto-max-bulk-len": ("512mb",),
    "protected-mode": ("no",),
    "rdbchecksum": ("no",),
    "sanitize-dump-payload": ("no",),
    "save": ("3600 1 300 100 60 10000", ""),
    "slowlog-log-slower-than": ("-1",),
    "stop-writes-on-bgsave-error": ("no",),
    "tls-auth-clients": ("no", "yes"),
    "tls-ciphers": ("ALL",),
    "tls-protocols": ("TLSv1 TLSv1.1 TLSv1.2 TLSv1.3",),
    "unixsocketperm": ("777",),
}


LATENT = "setting that only shows in time"
"""Kind of the mutants whose effect a probe could not wait for: a power failure, an idle client, a full table."""

# By setting, the probes that try what it is for.
TRIED: Mapping[str, tuple[str, ...]] = {
    "acl-pubsub-default": ("P35",),
    "appendonly": ("P53", "P52"),
    "client-output-buffer-limit": ("P40",),
    "databases": ("P27",),
    "enable-debug-command": ("P27",),
    "enable-module-command": ("P27",),
    "enable-protected-configs": ("P27",),
    "maxmemory": ("P50", "P51"),
    "maxmemory-clients": ("P40",),
    "maxmemory-policy": ("P51", "P50"),
    "notify-keyspace-events": ("P34",),
    "port": ("P05",),
    "proto-max-bulk-len": ("P42",),
    "sanitize-dump-payload": ("P45",),
    "slowlog-log-slower-than": ("P18",),
    "tls-auth-clients": ("P07",),
    "tls-ciphers": ("P06",),
    "tls-protocols": ("P06",),
}

# The sandbox sets these for itself.
OWN = frozenset({"port", "unixsocket", "unixsocketperm", "dir", "aclfile", "save"})


def server_defaults(world: World) -> Iterator[Mutant]:
    """Yield each declared setting as a server has it that nobody configured."""
    for instance in world.instances:
        defaults = _defaults(world)
        for name, value in sorted(world.throw_away.directives(instance).items()):
            default = defaults.get(name)
            # A server without an address, or with a port that is taken, does not start.
            if default is not None and name != "port" and canonical(default) != canonical(value):
                yield _changed(instance, name, default)


def _defaults(world: World) -> dict[str, str]:
    """Return the settings of a server with no configuration; what the sandbox says itself is its own."""
    with (
        tempfile.TemporaryDirectory(prefix="dbkeep-prove-") as folder,
        sandbox.start(Path(folder), program=world.throw_away.program) as settings,
        connect("state", settings.instances["state"]) as client,
    ):
        found: dict[str, str] = client.config_get("*")  # type: ignore[assignment]
    return {name: value for name, value in found.items() if name not in OWN}


def worse(world: World) -> Iterator[Mutant]:
    """Yield each declared setting with each value of WORSE that is neither declared nor the default."""
    for instance in world.instances:
        wanted, defaults = world.throw_away.directives(instance), _defaults(world)
        for name, values in WORSE.items():
            for value in values:
                known = {canonical(wanted.get(name, value)), canonical(defaults.get(name, wanted.get(name, "")))}
                if canonical(value) not in known:
                    yield _changed(instance, name, value)


def network(world: World) -> Iterator[Mutant]:
    """Yield each instance with an open port beside the encrypted one."""
    for instance in world.instances:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
        yield _changed(instance, "port", port, shown="(open)")


def _changed(instance: str, name: str, value: str, *, shown: str | None = None) -> Mutant:
    text = value if shown is None else shown
    # An empty one leaves it to the libraries of the host, which may be as strict today.
    kind = name if name in TRIED and value else LATENT
    return Mutant(
        f"{instance} {name} {text or '(empty)'}", kind, settings={instance: {name: value}},
        about=frozenset({instance, name}),
    )  # fmt: skip
