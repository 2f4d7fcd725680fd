"""Stores: places that hold copies of backup sets, each laid out as the repository on the host is.

A store takes whole files, lists them and gives them back. The sets of a store that is lost, full or damaged do not
touch those of another one: a copy is made after a set is complete, for every store alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from dbkeep.backup.sealed_file import BLOCK, private, publish
from dbkeep.backup.settings import BackupHost, DirectoryStoreSettings
from dbkeep.errors import DbkeepError, UsageError

PARTIAL = ".partial"


class StoreError(DbkeepError):
    """A store cannot be used now: unreachable, full, refusing. What it holds already stays as it is."""


class Store(Protocol):
    """One store. A key is a file's path below the repository, such as sets/ID/redis/manifest.json."""

    name: str
    off_host: bool

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size of every whole file whose key begins with `prefix`. Raises StoreError."""

    def put(self, key: str, source: Path, sha256: str) -> None:
        """Store the file `source`, whose digest is `sha256`: it is there whole and unaltered, or not at all.

        Raises StoreError.
        """

    def get(self, key: str, target: BinaryIO) -> None:
        """Write the file's content to `target`, in bounded memory. Raises StoreError, also when there is none."""

    def is_locked(self, key: str) -> bool:
        """Say whether nobody can delete the file now, as the store says. Raises StoreError."""

    def discard_unfinished(self, engines: tuple[str, ...]) -> None:
        """Remove what killed copies of these engines' files left. The caller is the only one that copies them."""


class DirectoryStore:
    """A folder: another disk, or the mount of another machine's. With `off_host` it must be a mounted one."""

    def __init__(self, settings: DirectoryStoreSettings, repository: Path) -> None:
        self.name = settings.name
        self.off_host = settings.off_host
        self._root = settings.path
        self._repository = repository

    def sizes(self, prefix: str) -> dict[str, int]:
        self._require_mounted()
        return {key: (self._root / key).stat().st_size for key in self._keys(prefix) if not key.endswith(PARTIAL)}

    def put(self, key: str, source: Path, sha256: str) -> None:
        self._require_mounted()
        path = self._root / key
        partial = path.with_name(path.name + PARTIAL)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with source.open("rb") as stream, private(partial) as out:
                shutil.copyfileobj(stream, out, BLOCK)
            with partial.open("rb") as stream:
                written = hashlib.file_digest(stream, "sha256").hexdigest()
            if written != sha256:
                raise StoreError(f"store {self.name}: {path}: what was written is not what was sent; check its disk")
            publish(partial, path)
        except OSError as error:
            raise self._error(f"{path}: cannot be written", error) from None
        finally:
            partial.unlink(missing_ok=True)

    def get(self, key: str, target: BinaryIO) -> None:
        self._require_mounted()
        try:
            with (self._root / key).open("rb") as stream:
                shutil.copyfileobj(stream, target, BLOCK)
        except FileNotFoundError:
            raise StoreError(f"store {self.name}: {self._root / key}: missing; take another set") from None
        except OSError as error:
            raise self._error(f"{self._root / key}: cannot be read", error) from None

    def is_locked(self, key: str) -> bool:  # noqa: ARG002 - a directory locks nothing
        return False

    def remove(self, key: str) -> None:
        """Remove one file, and its folder when that is empty then. Raises StoreError."""
        path = self._root / key
        try:
            path.unlink(missing_ok=True)
            while (path := path.parent) != self._root and not any(path.iterdir()):
                path.rmdir()
        except OSError as error:
            raise self._error(f"{path}: cannot be removed", error) from None

    def discard_unfinished(self, engines: tuple[str, ...]) -> None:
        for key in [key for key in self._keys("") if key.endswith(PARTIAL) and belongs_to(key, engines)]:
            self.remove(key)

    def _keys(self, prefix: str) -> Iterator[str]:
        # A log has many thousand files: their names alone are looked at.
        for folder, _, names in os.walk(self._root / prefix.rpartition("/")[0]):
            inside = os.path.relpath(folder, self._root)
            for name in names:
                key = name if inside == os.curdir else f"{inside}/{name}"
                if key.startswith(prefix):
                    yield key

    def _require_mounted(self) -> None:
        try:
            device = self._root.stat().st_dev
        except OSError as error:
            raise self._error(f"{self._root}: cannot be used", error) from None
        if self.off_host and device == self._repository.stat().st_dev:
            raise StoreError(
                f"store {self.name}: {self._root} is on the same filesystem as the repository: mount what it stands for"
            )

    def _error(self, what: str, error: OSError) -> StoreError:
        return StoreError(f"store {self.name}: {what}: {error.strerror or error}; the other copies are untouched")


def belongs_to(key: str, engines: tuple[str, ...]) -> bool:
    """Say whether a key is of one of these engines: sets/ID/ENGINE/FILE, or a file of pgBackRest below postgresql/.

    Of the engines' logs it is for log/ENGINE: whoever copies sets leaves alone what is shipped meanwhile.
    """
    parts = key.split("/")
    if parts[0] == "log":
        return "/".join(parts[:2]) in engines
    return (parts[2] if parts[0] == "sets" and len(parts) > 3 else parts[0]) in engines


def open_store(host: BackupHost, name: str) -> Store:
    """Return the store `name` of this host.

    Raises UsageError, naming those that there are, when there is none of that name, and when its key cannot be used.
    """
    for settings in host.settings.readable_stores:
        if settings.name != name:
            continue
        if isinstance(settings, DirectoryStoreSettings):
            return DirectoryStore(settings, host.settings.repository)
        from dbkeep.backup.stores.s3 import S3Store  # noqa: PLC0415 - hosts without such a store do not load boto3

        return S3Store(settings, host.settings.postgresql.full_after_days if host.settings.postgresql else 0)
    names = ", ".join(settings.name for settings in host.settings.readable_stores) or "none"
    raise UsageError(f"this host has no store {name!r}; backup_stores names {names}")
