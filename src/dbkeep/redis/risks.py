"""What a changed setting or a restart costs the running server: one word for the plan, a few for people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dbkeep.plan import Risk
from dbkeep.redis.inspect import LiveInstance

MEBIBYTE = 1024 * 1024
NOTHING_EVICTED = "noeviction"
# From the one that loses most in a crash to the one that loses least.
SYNCS = ("no", "everysec", "always")
Cost = tuple[Risk, str]


def of_setting(name: str, wanted: str, live: LiveInstance) -> Cost:
    """Return what it costs to give setting `name` the value `wanted`, both as CONFIG GET spells them; "" is nothing."""
    if name in _RULES:
        try:
            return _RULES[name](live.settings[name], wanted, live)
        except ValueError:
            # Not a number: the server will not take it either.
            return Risk.SAFE, ""
    return (Risk.SAFE, "for new connections") if name.startswith("tls-") else (Risk.SAFE, "")


def of_restart(live: LiveInstance, wanted: Mapping[str, str]) -> str:
    """Return what a restart costs the clients of an instance whose settings are then `wanted`."""
    ends = f"{live.clients} connections end"
    if live.keys and wanted.get("appendonly") != "yes" and not wanted.get("save"):
        return f"{ends}, {live.keys} keys are lost: nothing is on disk"
    return ends


def _memory(_: str, wanted: str, live: LiveInstance) -> Cost:
    if int(wanted) == 0 or live.used_memory <= int(wanted):
        return Risk.SAFE, ""
    used = f"{live.used_memory / MEBIBYTE:.0f} MiB are used"
    if live.settings.get("maxmemory-policy") == NOTHING_EVICTED:
        return Risk.DESTRUCTIVE, f"writes are refused: {used}"
    return Risk.DESTRUCTIVE, f"keys are evicted: {used}"


def _policy(before: str, wanted: str, _: LiveInstance) -> Cost:
    if before == NOTHING_EVICTED:
        return Risk.DESTRUCTIVE, "keys are evicted when the memory is full"
    if wanted == NOTHING_EVICTED:
        return Risk.SAFE, "writes are refused when the memory is full, nothing is evicted any more"
    return Risk.SAFE, "other keys are evicted than before"


def _append_only(_: str, wanted: str, __: LiveInstance) -> Cost:
    if wanted == "yes":
        return Risk.REWRITING, "all data is written to a new file"
    return Risk.DESTRUCTIVE, "a crash loses what came after the last snapshot"


def _sync(before: str, wanted: str, _: LiveInstance) -> Cost:
    known = before in SYNCS and wanted in SYNCS
    return Risk.SAFE, "a crash loses more than before" if known and SYNCS.index(wanted) < SYNCS.index(before) else ""


def _snapshots(_: str, wanted: str, __: LiveInstance) -> Cost:
    return Risk.SAFE, "" if wanted else "no snapshot is taken any more"


def _clients(_: str, wanted: str, live: LiveInstance) -> Cost:
    if int(wanted) < live.clients:
        return Risk.LOCKING, f"new connections are refused while {live.clients} are open"
    return Risk.SAFE, ""


def _idle(before: str, wanted: str, _: LiveInstance) -> Cost:
    shorter = int(wanted) and not 0 < int(before) <= int(wanted)
    return Risk.SAFE, "connections idle for longer are closed" if shorter else ""


def _limit(_: str, __: str, ___: LiveInstance) -> Cost:
    return Risk.SAFE, "clients above it are disconnected"


def _listener(_: str, __: str, ___: LiveInstance) -> Cost:
    return Risk.LOCKING, "clients have to connect there from now on"


_RULES: Mapping[str, Callable[[str, str, LiveInstance], Cost]] = {
    "maxmemory": _memory,
    "maxmemory-policy": _policy,
    "appendonly": _append_only,
    "appendfsync": _sync,
    "save": _snapshots,
    "maxclients": _clients,
    "timeout": _idle,
    **dict.fromkeys(
        ("client-output-buffer-limit", "client-query-buffer-limit", "maxmemory-clients", "proto-max-bulk-len"), _limit
    ),
    **dict.fromkeys(("bind", "port", "tls-port"), _listener),
}
