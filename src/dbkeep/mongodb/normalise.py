"""Values in the one form in which declared and live can be compared: what the server adds of its own is taken off."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

# What the server fills in (MongoDB manual, "Collation"). A locale with other defaults must declare them.
_COLLATION = {
    "caseLevel": False,
    "caseFirst": "off",
    "strength": 3,
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}


def collation(value: Document | None) -> Document | None:
    """Return a collation without defaults and without the version of the library; None for the simple one."""
    if value is None or value.get("locale") == "simple":
        return None
    return {name: part for name, part in value.items() if name != "version" and _COLLATION.get(name) != part}


def exact(value: Any, *, ordered: bool = False) -> Any:
    """Return a value that equals another one only if the server sees no difference.

    Python holds true and 1 for equal, the server does not; a whole double is its integer for both. The order of keys
    matters in a pipeline ($sort), not in a schema.
    """
    if isinstance(value, dict):
        items = [(name, exact(part, ordered=ordered)) for name, part in value.items()]
        return items if ordered else dict(items)
    if isinstance(value, list | tuple):
        return [exact(item, ordered=ordered) for item in value]
    return ("bool", value) if isinstance(value, bool) else value
