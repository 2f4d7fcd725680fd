"""Keeps a restored cluster of PostgreSQL off the timelines that are in the live archive already.

Recovery takes the first number of which the archive that it reads has no history. That archive may be a copy: from a
store, or of another host. Then a second restore to the same place would take the number of the first one, and the live
archive would refuse what it logs.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from dbkeep.backup.settings import BackupHost

_HISTORY = re.compile(r"([0-9A-F]{8})\.history(-.*)?")
# Of pgBackRest's archive, and of that of the engine basebackup.
_FOLDERS = ("archive/*/*", "wal/*")


def reserve(host: BackupHost, data: Path, timeline: int) -> list[Path]:
    """Put empty histories of the timelines after `timeline` that the live archive has into the cluster's `data`.

    Recovery looks for a history there when the archive has none, and asks only whether there is one
    (PostgreSQL, src/backend/access/transam/timeline.c, existsTimeLineHistory). Returns them, for `forget`.
    """
    root = host.live_repository / "postgresql"
    found = (_HISTORY.fullmatch(path.name) for folder in _FOLDERS for path in root.glob(f"{folder}/*.history*"))
    last = max((int(name[1], 16) for name in found if name), default=0)
    made = [data / "pg_wal" / f"{number:08X}.history" for number in range(timeline + 1, last + 1)]
    for path in made:
        path.touch(mode=0o600)
        if os.geteuid() == 0:
            shutil.chown(path, host.with_postgresql()[0].os_user)
    return made


def forget(histories: Iterable[Path]) -> None:
    """Remove what `reserve` made, once the cluster is on a timeline of its own."""
    for path in histories:
        path.unlink(missing_ok=True)
