"""Live data is never overwritten: the data directory is set aside before a restore, and put back when that fails."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbkeep.backup.restore.service import Service
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import STAMP, now
from dbkeep.files import write_atomically

MARK = "before-restore"
UNFINISHED, STARTED = "restoring", "started"


@contextmanager
def set_aside(directory: Path, service: Service, os_user: str) -> Iterator[Path | None]:
    """Stop `service`, rename its data `directory` beside itself and make a new, empty one in its place.

    The new one has the old one's owner and mode, or belongs to `os_user` alone when there was none. Yields where the
    safety copy is, or None. When the block fails, the new directory is removed, the safety copy is renamed back and
    the service started, so that things are as they were. What an interrupted restore left without having started the
    server is no live data: it is removed, and the safety copy that was made then is this one's too.

    Raises DbkeepError when the directory cannot be renamed (a mount point), UsageError when `os_user` does not exist.
    """
    owner, mode = _owner(os_user), 0o700
    service.stop()
    safety, started = _noted(directory)
    if safety is not None and not started:
        shutil.rmtree(directory, ignore_errors=True)
    elif directory.exists():
        safety = directory.with_name(f"{directory.name}.{MARK}-{now():{STAMP}}")
        _rename(directory, safety, service)
    try:
        if safety is not None:
            status = safety.stat()
            owner, mode = (status.st_uid, status.st_gid), status.st_mode & 0o7777
        directory.mkdir(mode=0o700)
        os.chown(directory, *owner)
        directory.chmod(mode)
        yield safety
    except BaseException:
        _put_back(directory, safety, service)
        raise
    _note(directory).unlink(missing_ok=True)


def _rename(directory: Path, safety: Path, service: Service) -> None:
    """Set the directory aside, and note that before it is done: a kill in between leaves it live or noted."""
    try:
        write_atomically(_note(directory), f"{safety.name}\n", mode=0o600)
        directory.rename(safety)
    except OSError as error:
        _note(directory).unlink(missing_ok=True)
        service.start()
        raise DbkeepError(
            f"{directory}: cannot be set aside: {error.strerror}; the data directory must be a folder below a mount "
            "point, not the mount point itself, and its filesystem must not be full"
        ) from None


@dataclass(frozen=True, slots=True)
class NotedService:
    """A service whose start is noted beside its data directory: from then on what is in there may be live data."""

    service: Service
    directory: Path

    def stop(self) -> None:
        self.service.stop()

    def start(self) -> None:
        safety, started = _noted(self.directory)
        if safety is not None and not started:
            write_atomically(_note(self.directory), f"{safety.name}\n{STARTED}\n", mode=0o600)
        self.service.start()


def unfinished(directory: Path) -> Path | None:
    """Return where a restore that was interrupted had set the live data aside, or None."""
    return _noted(directory)[0]


def _noted(directory: Path) -> tuple[Path | None, bool]:
    """Return the safety copy of an unfinished restore, and whether the server was started on what is there instead."""
    try:
        name, *rest = _note(directory).read_text(encoding="utf-8").split()
    except (FileNotFoundError, ValueError):
        return None, False
    safety = directory.with_name(name)
    return (safety if safety.is_dir() else None), rest == [STARTED]


def _note(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.{UNFINISHED}")


def _put_back(directory: Path, safety: Path | None, service: Service) -> None:
    service.stop()
    shutil.rmtree(directory, ignore_errors=True)
    if safety is not None:
        safety.rename(directory)
        _note(directory).unlink(missing_ok=True)
        service.start()


def _owner(name: str) -> tuple[int, int]:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise UsageError(
            f"user {name} does not exist: its engine is not installed here; run playbooks/site.yml"
        ) from None
    return user.pw_uid, user.pw_gid


def give(folder: Path, os_user: str) -> None:
    """Make `os_user` the owner of everything in `folder`."""
    owner = _owner(os_user)
    for path in folder.rglob("*"):
        os.chown(path, *owner, follow_symlinks=False)


def safety_copies(directory: Path) -> list[Path]:
    """Return the safety copies beside a data directory, oldest first; removing them is the operator's decision."""
    return sorted(directory.parent.glob(f"{directory.name}.{MARK}-*"))
