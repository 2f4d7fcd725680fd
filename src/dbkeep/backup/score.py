"""The 3-2-1-1-0 score: three copies on two kinds of media, one off the host, one that is locked, no error in a drill.

It is computed from what the hosts and stores say of the newest complete set, and from the last drill of every host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WANTED = {"copies": 3, "media": 2, "off_host": 1, "locked": 1}
HOST = "host"


def score(newest: Mapping[str, Any] | None, hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the five numbers and, as `missing`, a line for each that is not reached.

    `newest` is the newest complete set, as the controller's catalog has it; `hosts` are the catalogs of the hosts. The
    live data counts as a copy (CISA: "one primary and two backups"). `errors` is None when a host was never drilled.
    """
    states: dict[str, dict[str, Any]] = {}
    for host in hosts:
        for name, state in host["stores"].items():
            known = states.setdefault(name, {**state, "locked": set()})
            known["locked"] |= set(state["locked"])
    parts = {f"{newest['set_id']}/{engine}" for engine in newest["engines"]} if newest else set()
    held = [states[name] for name in newest["copies"]] if newest else []
    media = {HOST if state["type"] == "directory" and not state["off_host"] else state["type"] for state in held}
    found: dict[str, Any] = {
        "copies": 1 + (1 + len(held) if newest else 0),
        "media": len({HOST} | media),
        "off_host": sum(state["off_host"] for state in held),
        "locked": sum(parts <= state["locked"] for state in held),
        "errors": _errors(hosts),
    }
    return {"set_id": newest["set_id"] if newest else None, **found, "missing": _missing(found)}


def _errors(hosts: Sequence[Mapping[str, Any]]) -> int | None:
    """Return how much was wrong in the last drills and with the manifests; None when a host has had no drill."""
    drills = [host["drill"] for host in hosts]
    if not all(drills):
        return None
    return int(sum(drill["errors"] for drill in drills)) + sum(len(host["damaged"]) for host in hosts)


def _missing(found: Mapping[str, Any]) -> list[str]:
    lines = [f"{name} is {found[name]} of {wanted}" for name, wanted in WANTED.items() if found[name] < wanted]
    if found["errors"] is None:
        lines.append("no drill was run")
    elif found["errors"]:
        lines.append(f"errors is {found['errors']}, not 0")
    return [line.replace("_", " ") for line in lines]


def text(score: Mapping[str, Any]) -> str:
    """Return the score in one line."""
    numbers = ", ".join(f"{name.replace('_', ' ')} {score[name]}" for name in WANTED)
    errors = "no drill" if score["errors"] is None else f"errors {score['errors']}"
    return f"3-2-1-1-0: {numbers}, {errors}{'' if score['missing'] else ': reached'}"
