"""Which files of pgBackRest's repository one backup needs, so that they can be copied, checked and used elsewhere.

A backup's files never change once it is complete. The two that pgBackRest writes again and again, backup.info and
archive.info, are kept in every part as they were when it was made.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dbkeep.backup.manifest import Part, StoredFile
from dbkeep.errors import DbkeepError

ROOT = "postgresql"
SEGMENT_NAME = 24


def needed(repository: Path, stanza: str, info: Mapping[str, Any], backup: Mapping[str, Any], until: str) -> list[Path]:
    """Return the files that restore `backup` (of `pgbackrest info`) to a point in the WAL segment `until`, in order.

    They are those of the backup and of all backups it builds on, the WAL from its start and the timelines' histories.
    """
    root = repository / ROOT
    labels = sorted({backup["label"], *(backup.get("reference") or ())})
    found = [path for label in labels for path in _files(root / "backup" / stanza / label)]
    database = backup["database"]["id"]
    archive = next(entry["id"] for entry in info["archive"] if entry["database"]["id"] == database)
    start = backup["archive"]["start"]
    for path in _files(root / "archive" / stanza / archive):
        if path.suffix == ".history" or start <= path.name[:SEGMENT_NAME] <= until:
            found.append(path)
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def digest(repository: Path, paths: Iterable[Path], known: Mapping[str, StoredFile]) -> tuple[StoredFile, ...]:
    """Return the entries of files, taking over those of earlier parts: a file that rotted since differs from its entry.

    Raises DbkeepError when a file cannot be read.
    """
    entries = []
    for path in paths:
        name = str(path.relative_to(repository))
        try:
            size = path.stat().st_size
            if name in known and known[name].size == size:
                entries.append(known[name])
                continue
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DbkeepError(f"{path}: cannot be read: {error.strerror}; look at the repository's disk") from None
        entries.append(StoredFile(name=name, size=size, sha256=sha256, plain_size=size))
    return tuple(entries)


def info_files(stanza: str) -> Iterator[tuple[str, str]]:
    """Yield the files that pgBackRest rewrites: their name in a part, and their path below the repository."""
    for kind in ("backup", "archive"):
        yield f"{kind}.info", f"{ROOT}/{kind}/{stanza}/{kind}.info"


def keep_info(repository: Path, stanza: str, folder: Path) -> tuple[StoredFile, ...]:
    """Copy backup.info and archive.info, which are encrypted as all of the repository is, into a part's folder."""
    for name, path in info_files(stanza):
        shutil.copyfile(repository / path, folder / name)
        (folder / name).chmod(0o600)
    paths = [folder / name for name, _ in info_files(stanza)]
    return digest(folder, paths, {})


def put_info(repository: Path, part: Part, os_user: str) -> None:
    """Make a fetched part a repository of pgBackRest: its info files in their places, all of it `os_user`'s."""
    for name, path in info_files(part.details["stanza"]):
        target = repository / path
        target.parent.mkdir(parents=True, exist_ok=True)
        for copy in (target, target.with_name(target.name + ".copy")):
            shutil.copyfile(repository / part.folder / name, copy)
    if os.geteuid() == 0:
        user = pwd.getpwnam(os_user)
        for entry in (repository / ROOT, *(repository / ROOT).rglob("*")):
            os.chown(entry, user.pw_uid, user.pw_gid)
