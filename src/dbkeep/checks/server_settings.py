"""Compares settings that an observer saw with those that a control wants."""

from __future__ import annotations

from typing import Any

from dbkeep.checks.plugin import Observe


def observe_settings(facts: dict[str, Any], observe: Observe, wanted: dict[str, tuple[str, ...]]) -> list[str]:
    """Record the named settings and return those that have another value than the wanted ones."""
    found = {name: facts["settings"].get(name) for name in wanted}
    observe(**{name.replace(".", "_"): value for name, value in found.items()})
    return [
        f"{name} is {found[name]}, not {' or '.join(values)}"
        for name, values in wanted.items()
        if found[name] not in values
    ]
