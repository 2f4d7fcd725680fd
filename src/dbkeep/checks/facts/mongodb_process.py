"""What mongod does on its host: the log that it writes, its journal, the memory that it takes for its cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pymongo import MongoClient

ROTATION = Path("/etc/logrotate.d/mongod")


def describe_process(client: MongoClient[dict[str, Any]]) -> dict[str, Any]:
    """Return what the server says of itself and the kernel of its process. Needs root for another user's process."""
    status = client.admin.command("serverStatus")
    log = client.admin.command("getCmdLineOpts")["parsed"].get("systemLog", {})
    engine = status["wiredTiger"]
    return {
        "log": {
            **{name: log.get(name) for name in ("destination", "path", "logAppend", "logRotate", "quiet")},
            "is_written": log.get("path") in _open_files(status["pid"]),
            "is_rotated": ROTATION.is_file() and str(log.get("path")) in ROTATION.read_text(encoding="utf-8"),
        },
        "journal_bytes": engine["log"]["log bytes written"],
        "cache_bytes": engine["cache"]["maximum bytes configured"],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _open_files(process: int) -> set[str]:
    """Return the paths that a process has open; one that was moved away shows its new name."""
    links = Path(f"/proc/{process}/fd").iterdir()
    return {str(link.readlink()) for link in links if link.is_symlink()}
