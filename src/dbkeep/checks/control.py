"""What a control is, and the words a control file uses to declare one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

import pytest

AREAS: dict[str, tuple[str, ...]] = {
    "environment": ("controller",),
    "host": ("postgresql", "mongodb", "redis", "chat_api"),
    "postgresql": ("postgresql",),
    "mongodb": ("mongodb",),
    "redis": ("redis",),
    "isolation": ("postgresql",),
    "backup": ("postgresql", "mongodb", "redis"),
}
"""The folders of checks/ and the inventory groups whose hosts each one is asked about."""


class Severity(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class State(StrEnum):
    PASS = "pass"  # noqa: S105 - a state, not a password
    FAIL = "fail"
    ERROR = "error"
    NOT_APPLICABLE = "not-applicable"
    WAIVED = "waived"


@dataclass(frozen=True, slots=True)
class Control:
    """One question. `sources` name the benchmark items or manual pages it comes from, `fix` what to do on failure."""

    id: str
    title: str
    severity: Severity
    sources: tuple[str, ...]
    fix: str


class NotApplicable(Exception):  # noqa: N818 - a state, not an error
    """The question makes no sense on this host; the message is the evidence."""


def control(control_id: str, title: str, *, severity: str, sources: tuple[str, ...], fix: str) -> pytest.MarkDecorator:
    """Mark a test function as the live verification of one control.

    Raises ValueError for an empty or malformed field or an unknown severity, when the file is loaded.
    """
    if not (control_id and title and sources and fix):
        raise ValueError(f"control {control_id or title!r}: id, title, sources and fix must all be given")
    if isinstance(sources, str):
        raise ValueError(f"control {control_id}: sources is a tuple of strings, not one string")
    return pytest.mark.control(Control(control_id, title, Severity(severity), sources, fix))


def not_applicable(reason: str) -> NoReturn:
    """End the control as not applicable on this host; `reason` is an observed fact, not an intention."""
    raise NotApplicable(reason)
