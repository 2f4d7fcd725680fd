"""One run of the backup of one engine: what it may use and how its result becomes a part of the set."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbkeep.backup.clock import after_at
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.settings import BackupHost, BackupSettings
from dbkeep.backup.signature import public_half, read_key_file
from dbkeep.evidence import now

Progress = Callable[[str], None]
Ready = Callable[[], None]


def at_once() -> None:
    """Be ready: nothing else is to be waited for."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A moment an engine can be restored to: when it was set, and the engine's own name of it."""

    at: datetime
    name: str


@dataclass
class Job:
    """`facts` carries what an engine learns in `prepare` and needs in `collect`.

    `logged` is the place to which the engine's log was cut before the fence, if it ever was.
    """

    host: BackupHost
    set_id: str
    engine: str
    folder: Path
    progress: Progress
    started: datetime = field(default_factory=now)
    facts: dict[str, Any] = field(default_factory=dict)
    logged: str | None = None

    @property
    def settings(self) -> BackupSettings:
        return self.host.settings

    def part(
        self, fence: Fence, *, tools: dict[str, str], details: dict[str, Any], shape: dict[str, Any], **rest: Any
    ) -> Part:
        """Return the manifest of this job's part; `shape` is what its fingerprints are of, and is kept in details."""
        return Part(
            set_id=self.set_id,
            engine=self.engine,
            host=socket.gethostname(),
            recovery_point=RecoveryPoint(at=fence.at, name=fence.name, after=after_at(self.logged, fence.at)),
            started_at=self.started,
            seconds=round((now() - self.started).total_seconds(), 3),
            recipients=self.settings.recipients,
            signed_by=public_half(read_key_file(self.settings.signing_key_file)),
            tools={**{name: version(name) for name in ("dbkeep", "pyrage", "zstandard")}, **tools},
            fingerprint=_fingerprint(shape),
            fingerprints={kind: _fingerprint(of_kind) for kind, of_kind in shape.items()},
            details={**details, "shape": shape},
            **rest,
        )


def _fingerprint(shape: Any) -> str:
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()
