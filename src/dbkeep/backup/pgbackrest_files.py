"""Which files of pgBackRest's repository one backup needs, so that they can be copied, checked and used elsewhere.

A backup's files never change once it is complete, and parts share them. What pgBackRest writes again and again
(backup.info, archive.info), or what every later backup needs for as long as the cluster lives (the histories of its
timelines), is kept in each part as it was when the part was made.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import Any

from dbkeep.backup.log.wal_archive import SEGMENT_NAME
from dbkeep.backup.manifest import Part, StoredFile
from dbkeep.errors import DbkeepError

ROOT = "postgresql"
OWN = "repository"
UNFINISHED = ".tmp"


def needed(repository: Path, stanza: str, archive: Path, backup: Mapping[str, Any], until: str) -> list[Path]:
    """Return the files that restore `backup` (of `pgbackrest info`) to a point in the WAL segment `until`, in order.

    They are those of the backup and of all backups it builds on, and the WAL in `archive` from its start.
    """
    labels = sorted({backup["label"], *(backup.get("reference") or ())})
    found = [path for label in labels for path in _files(repository / ROOT / "backup" / stanza / label)]
    start = backup["archive"]["start"]
    wal = _files(archive)
    return found + [path for path in wal if start <= path.name[:SEGMENT_NAME] <= until]


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.suffix != UNFINISHED)


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


@contextmanager
def digested_beside(
    repository: Path, paths: Iterable[Path], known: Mapping[str, StoredFile]
) -> Iterator[Future[tuple[StoredFile, ...]]]:
    """Let a thread make the entries of files, as `digest` does, while the block runs and asks for them.

    A block that fails waits for the file at hand only.
    """
    ended = Event()
    with ThreadPoolExecutor(1) as beside:
        try:
            yield beside.submit(digest, repository, takewhile(lambda _: not ended.is_set(), paths), known)
        finally:
            ended.set()


def keep_own(repository: Path, stanza: str, archive: Path, folder: Path) -> tuple[StoredFile, ...]:
    """Copy what a part keeps for itself into its folder, below `repository`, encrypted as it is; return the entries."""
    sources = [repository / ROOT / "backup" / stanza / "backup.info", archive.parent / "archive.info"]
    sources += sorted(archive.glob("*.history"))
    targets = []
    for source in sources:
        target = folder / OWN / source.relative_to(repository)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o600)
        targets.append(target)
    return digest(folder, targets, {})


def put_own(repository: Path, part: Part, os_user: str) -> None:
    """Make a fetched part a repository of pgBackRest: what it keeps for itself in its place, all of it `os_user`'s.

    A part of the other engine keeps nothing for itself.
    """
    kept = repository / part.folder / OWN
    if kept.is_dir():
        shutil.copytree(kept, repository, dirs_exist_ok=True)
        for archive in (kept / ROOT / "archive").iterdir():
            if archive.name != part.details["stanza"]:
                link_archive(repository / ROOT, archive.name, part.details["stanza"])
        own(repository / ROOT, os_user)


def link_archive(root: Path, stanza: str, chain: str) -> None:
    """Let another chain of backups find the archive of `stanza` under its own name. Raises OSError."""
    link = root / "archive" / chain
    if not link.is_symlink():
        link.symlink_to(stanza)


def own(root: Path, os_user: str) -> None:
    """Make `os_user` the owner of a repository of pgBackRest, or of a folder in it."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(os_user)
        for entry in (root, *root.rglob("*")):
            os.chown(entry, user.pw_uid, user.pw_gid, follow_symlinks=False)
