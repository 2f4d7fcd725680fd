"""Evidence: the JSON record of a plan, check, backup or drill: who, when, versions, observed values."""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbkeep.errors import UsageError
from dbkeep.files import write_atomically

EVIDENCE_DIRECTORY = Path("/var/lib/dbkeep/evidence")
FORMAT = 1
STAMP = "%Y%m%dT%H%M%S.%fZ"
# How far the clocks of machines that are kept may differ: what is further ahead is of a clock that was wrong.
TOLERANCE = timedelta(minutes=5)


def now() -> datetime:
    """Return the present time in UTC, whole milliseconds."""
    present = datetime.now(UTC)
    return present.replace(microsecond=present.microsecond // 1000 * 1000)


def person() -> str:
    """Return who runs this: the user that called sudo, else the user of the process."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def record(kind: str, *, started: datetime, passed: bool, observed: dict[str, Any]) -> dict[str, Any]:
    """Return a finished record of `kind` (plan, check, prove, backup, restore or drill); `observed` holds no secret."""
    finished = now()
    return {
        "format": FORMAT,
        "kind": kind,
        "who": person(),
        "host": socket.gethostname(),
        "started_at": started.isoformat(),
        "finished_at": finished.isoformat(),
        "seconds": round((finished - started).total_seconds(), 3),
        "result": "passed" if passed else "failed",
        "versions": {"dbkeep": version("dbkeep"), "python": platform.python_version()},
        "observed": observed,
    }


def write(evidence: dict[str, Any], directory: Path = EVIDENCE_DIRECTORY) -> Path:
    """Keep `evidence` as one file of `directory`, readable by root and its group only, and return its path."""
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    stamp = datetime.fromisoformat(evidence["finished_at"]).strftime(STAMP)
    path = directory / f"{evidence['kind']}-{stamp}.json"
    write_atomically(path, json.dumps(evidence, indent=2) + "\n", mode=0o640)
    return path


def read_all(kind: str, directory: Path = EVIDENCE_DIRECTORY) -> Iterator[dict[str, Any]]:
    """Yield the records of `kind` in `directory`, newest first; raises UsageError for a file that is not a record.

    Those of a time to come are the oldest: the clock was ahead then.
    """
    latest = f"{kind}-{now() + TOLERANCE:{STAMP}}.json"
    paths = directory.glob(f"{kind}-*.json")
    for path in sorted(paths, key=lambda path: (path.name <= latest, path.name), reverse=True):
        try:
            yield dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: not a readable evidence record: {error}; move it out of the folder") from None
