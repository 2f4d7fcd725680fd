"""The chains of a cluster's backups: a new one begins where the clock was ahead when the newest backup was taken.

pgBackRest takes no backup whose label, which has the server's time, is not later than every label that its stanza had.
A chain is a stanza of its own: the configured STANZA, then STANZA-2, STANZA-3 and so on. All of them have one archive,
that of STANZA, by a link: the server goes on archiving as it did, and the log carries on the sets of every chain.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from dbkeep.backup.pgbackrest_files import ROOT, link_archive, own
from dbkeep.errors import DbkeepError

_INFO = ("backup.info", "backup.info.copy")
_LABEL = re.compile(r"\d{8}-\d{6}F.*")


def chains(repository: Path, stanza: str) -> list[str]:
    """Return the chains of a stanza, the one that backups are taken into last. The first is there without a backup."""
    folders = (repository / ROOT / "backup").glob(f"{stanza}-*")
    named = (re.fullmatch(rf"{re.escape(stanza)}-(\d+)", folder.name) for folder in folders)
    numbers = sorted(int(found[1]) for found in named if found)
    return [stanza, *(f"{stanza}-{number}" for number in numbers)]


def begin_chain(repository: Path, stanza: str, os_user: str) -> str:
    """Begin the chain after the newest one and return its name. A kill leaves none, or one that a backup completes.

    It has the keys and the cluster's history of the newest one. The backups that it lists are not there, and pgBackRest
    strikes them off before it takes the first one. Raises DbkeepError when the disk refuses.
    """
    newest = chains(repository, stanza)[-1]
    number = int(newest.removeprefix(f"{stanza}-")) + 1 if newest != stanza else 2
    name, root = f"{stanza}-{number}", repository / ROOT
    making, made = root / "backup" / f".{name}", root / "backup" / name
    try:
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o750)
        for info in _INFO:
            shutil.copyfile(root / "backup" / newest / info, making / info)
            (making / info).chmod(0o640)
        own(making, os_user)
        link_archive(root, stanza, name)
        making.rename(made)
    except OSError as error:
        raise DbkeepError(f"{made}: cannot be made: {error.strerror}; look at the repository's disk") from None
    return name


def with_backups(repository: Path, stanza: str) -> list[str]:
    """Return the chains that have a backup, oldest first."""
    return [name for name in chains(repository, stanza) if _labels(repository, name)]


def empty_chains(repository: Path, stanza: str, needed: Collection[str]) -> None:
    """Remove the backups of all chains but the newest one that no set is of: `needed` are those that sets are of.

    The newest backup of a chain is never let go by its age. Raises DbkeepError when the disk refuses.
    """
    for name in chains(repository, stanza)[:-1]:
        if name in needed:
            continue
        folder = repository / ROOT / "backup" / name
        try:
            for label in _labels(repository, name):
                shutil.rmtree(folder / label)
        except OSError as error:
            raise DbkeepError(f"{folder}: cannot be emptied: {error.strerror}; look at the repository's disk") from None


def _labels(repository: Path, chain: str) -> list[str]:
    folder = repository / ROOT / "backup" / chain
    # Each incremental one is of no use without the one before it.
    return sorted((path.name for path in folder.glob("*") if _LABEL.fullmatch(path.name)), reverse=True)
