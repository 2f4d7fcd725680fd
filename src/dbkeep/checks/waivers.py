"""Waivers: findings that a named person accepts until a date, in inventory/ENV/waivers.yml."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from dbkeep.declared import Model, read_model
from dbkeep.errors import DeclaredError


class Waiver(Model):
    """One accepted finding. Without `hosts` it holds for every host of the environment."""

    control: str
    hosts: tuple[str, ...] | None = None
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=10)
    expires: datetime.date

    def is_expired(self, today: datetime.date) -> bool:
        return today > self.expires


class Waivers(Model):
    waivers: tuple[Waiver, ...] = ()

    def find(self, control: str, host: str) -> Waiver | None:
        """Return the waiver that names this control on this host, expired or not."""
        for waiver in self.waivers:
            if waiver.control == control and (waiver.hosts is None or host in waiver.hosts):
                return waiver
        return None


def waivers_file(environment: Path) -> Path:
    return environment / "waivers.yml"


def read_waivers(environment: Path, hosts: Collection[str]) -> Waivers:
    """Return the waivers of the environment folder; none when it has no waivers.yml.

    Raises DeclaredError with file and key for a wrong file and for a host that is not in the inventory.
    """
    path = waivers_file(environment)
    if not path.exists():
        return Waivers()
    waivers = read_model(path, Waivers)
    for index, waiver in enumerate(waivers.waivers):
        for host in waiver.hosts or ():
            if host not in hosts:
                raise DeclaredError(f"the inventory has no host {host!r}", path=path, key=f"waivers.{index}.hosts")
    return waivers


def require_known_controls(waivers: Waivers, known: Collection[str], environment: Path) -> None:
    """Raise DeclaredError for a waiver of a control that does not exist: a misspelt id would waive nothing."""
    for index, waiver in enumerate(waivers.waivers):
        if waiver.control not in known:
            raise DeclaredError(
                f"there is no control {waiver.control!r}; `dbkeep check --list` names them",
                path=waivers_file(environment),
                key=f"waivers.{index}.control",
            )
