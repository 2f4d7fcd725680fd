"""Finds secrets of the vault in text that is about to leave: evidence, reports, diagnostics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SHORTEST = 12
"""Shorter strings (user names, numbers) are no secrets of ours: dbkeep generates at least 128 bits."""

WITHHELD = "[withheld: a secret of the vault]"


def secret_values(secrets: Any) -> frozenset[str]:
    """Return every secret string in a nested value, those of several lines line by line too.

    Lines of PEM armour are left out, which are the same in every key, and a key's last line: it ends the public half,
    which stands in certificates too.
    """
    return frozenset(value for value in _strings(secrets) if len(value) >= SHORTEST)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
        lines = value.strip().splitlines()
        for line in lines[1:-2] if value.startswith("-----BEGIN") else lines:
            yield line.strip()
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def holds_secret(text: str, values: frozenset[str]) -> bool:
    return any(value in text for value in values)


def redact(text: str, values: frozenset[str]) -> str:
    """Return `text` with every secret in it replaced; the longest first, so that no part of one stays."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, WITHHELD)
    return text
