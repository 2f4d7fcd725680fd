"""Stops and starts the service of an engine around a restore."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Protocol

from dbkeep.errors import DbkeepError


class Service(Protocol):
    """A server that can be stopped and started; both return when it is done and raise DbkeepError when it fails."""

    def stop(self) -> None: ...
    def start(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SystemdService:
    """A unit of this host."""

    unit: str

    def stop(self) -> None:
        self._systemctl("stop")

    def start(self) -> None:
        # A unit that failed too often in a row is not started again before its counter is cleared (systemd.unit(5)).
        self._systemctl("reset-failed", required=False)
        self._systemctl("start")

    def _systemctl(self, verb: str, *, required: bool = True) -> None:
        done = subprocess.run(
            ["systemctl", verb, self.unit], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if required and done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise DbkeepError(f"systemctl {verb} {self.unit} failed: {reason}; read journalctl -u {self.unit}")
