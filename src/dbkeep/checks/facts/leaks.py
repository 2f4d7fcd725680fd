"""Where secrets of the vault lie open on this host: process arguments and environments, readable files, the journal.

The request holds the secrets; the answer names places only.
"""

from __future__ import annotations

import itertools
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbkeep.redaction import holds_secret, secret_values

FOLDERS = ("/etc", "/var/log", "/home", "/root", "/tmp", "/usr/local", "/opt/chat_api", "/var/lib/dbkeep")  # noqa: S108
LARGEST = 4 * 1024 * 1024
JOURNAL_LINES = 200_000


def gather(request: dict[str, Any]) -> dict[str, Any]:
    values = secret_values(request["secrets"])
    processes, files = list(_processes()), list(_readable_files())
    return {
        "versions": {},
        "looked_for": len(values),
        "looked_at": {"processes": len(processes), "files": len(files)},
        "in_processes": sorted(name for name, text in processes if holds_secret(text, values)),
        "in_files": sorted(str(path) for path in files if holds_secret(_read(path), values)),
        "in_journal": _journal_units(values),
    }


def _processes() -> Iterator[tuple[str, str]]:
    own = str(os.getpid())
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or folder.name == own:
            continue
        try:
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
            for kind in ("cmdline", "environ"):
                yield f"{name} ({folder.name}) {kind}", (folder / kind).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # the process ended while we looked


def _readable_files() -> Iterator[Path]:
    """Yield the files below FOLDERS that every user may read, folders above them included."""
    for top in FOLDERS:
        for folder, names, files in os.walk(top):
            if not stat.S_IMODE(Path(folder).stat().st_mode) & stat.S_IXOTH:
                names.clear()
                continue
            for path in (Path(folder) / name for name in files):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size <= LARGEST:
                    yield path


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _journal_units(values: frozenset[str]) -> list[str]:
    """Return which units (or programs) wrote a secret to the journal since the host started."""
    command = ("journalctl", "--boot", "--quiet", "--output", "json", "--lines", str(JOURNAL_LINES))
    guilty = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as journal:
        while batch := list(itertools.islice(journal.stdout or (), 2000)):
            # One search of the whole batch for each secret is many times faster than one of each line.
            for line in batch if holds_secret("".join(batch), values) else ():
                if holds_secret(line, values):
                    entry = json.loads(line)
                    guilty.add(str(entry.get("_SYSTEMD_UNIT") or entry.get("SYSLOG_IDENTIFIER")))
    return sorted(guilty)
