"""Refuses to restore what a server made into one that cannot read it, before anything is stopped."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dbkeep.backup.manifest import Part
from dbkeep.backup.restore.safety_copy import unfinished
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import UsageError
from dbkeep.sandbox import mongodb as mongodb_sandbox
from dbkeep.sandbox import redis as redis_sandbox

Version = tuple[int, ...]


def refuse_newer(host: BackupHost, part: Part) -> None:
    """Raise UsageError when the engine here is older than the server that the part was taken of.

    Of PostgreSQL the files are restored, which another major version does not start with, be it older or newer
    (PostgreSQL manual, "Upgrading a PostgreSQL Cluster").
    """
    here, taken = _installed(host, part.engine), version_of(part.server_version)
    digits = 1 if part.engine == "postgresql" else 2
    if here is None:
        return
    if here[:digits] < taken[:digits] or (part.engine == "postgresql" and here[:digits] != taken[:digits]):
        raise UsageError(
            f"{part.engine} {_text(here)} is here, and set {part.set_id} is of {_text(taken)}, which it cannot read; "
            "restore it onto a host with the set's version"
        )


def version_of(text: str) -> Version:
    """Return the first version number in `text`, such as (15, 18); () when there is none."""
    found = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def _installed(host: BackupHost, engine: str) -> Version | None:
    """Return the version of the engine that is installed, whether it runs or not; None where nothing says it."""
    if engine == "redis":
        live = host.with_redis()[1]
        return redis_sandbox.find_program(live.server, live.command).version
    if engine == "mongodb":
        program = str(mongodb_sandbox.find_mongod())
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return version_of(done.stdout) or None
    directory = host.with_postgresql()[0].data_directory
    for folder in (directory, unfinished(directory)):
        file = (folder or Path()) / "PG_VERSION"
        if folder and file.is_file():
            return version_of(file.read_text(encoding="ascii")) or None
    return None
