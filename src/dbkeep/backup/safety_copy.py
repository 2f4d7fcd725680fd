"""Live data is never overwritten: the data directory is set aside before a restore, and put back when that fails."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbkeep.backup.service import Service
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now

MARK = "before-restore"


@contextmanager
def set_aside(directory: Path, service: Service, os_user: str) -> Iterator[Path | None]:
    """Stop `service`, rename its data `directory` beside itself and make a new, empty one in its place.

    The new one has the old one's owner and mode, or belongs to `os_user` alone when there was none. Yields where the
    safety copy is, or None. When the block fails, the new directory is removed, the safety copy is renamed back and
    the service started, so that things are as they were.

    Raises DbkeepError when the directory cannot be renamed (a mount point), UsageError when `os_user` does not exist.
    """
    owner, mode = _owner(os_user), 0o700
    service.stop()
    safety = None
    if directory.exists():
        status = directory.stat()
        owner, mode = (status.st_uid, status.st_gid), status.st_mode & 0o7777
        safety = directory.with_name(f"{directory.name}.{MARK}-{now():%Y%m%dT%H%M%S.%fZ}")
        try:
            directory.rename(safety)
        except OSError as error:
            service.start()
            raise DbkeepError(
                f"{directory}: cannot be set aside: {error.strerror}; the data directory must be a folder "
                "below a mount point, not the mount point itself"
            ) from None
    try:
        directory.mkdir(mode=0o700)
        os.chown(directory, *owner)
        directory.chmod(mode)
        yield safety
    except BaseException:
        _put_back(directory, safety, service)
        raise


def _put_back(directory: Path, safety: Path | None, service: Service) -> None:
    service.stop()
    shutil.rmtree(directory, ignore_errors=True)
    if safety is not None:
        safety.rename(directory)
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
