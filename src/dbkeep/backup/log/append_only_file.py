"""The append-only file of an instance as it lies on the disk, and the links that keep all of it until it is sealed.

Redis 7 writes commands to one incremental file, until a rewrite begins the next one; when the new base is complete it
removes the files before that. Their numbers go up by one, and one after the other they are every command in order: a
base is only a shorter way to the same state. A hard link keeps a file, and what is still written to it, after that.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dbkeep.errors import DbkeepError
from dbkeep.files import write_atomically

HELD = "dbkeep-held"
INCARNATION = "incarnation"
ATTEMPTS = 20


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A byte of an instance's append-only files: which data directory, the number of the file, and where in it."""

    incarnation: str
    sequence: int
    offset: int

    def __str__(self) -> str:
        return f"{self.incarnation}:{self.sequence}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position that `text` names; raises DbkeepError when it is none."""
        incarnation, *numbers = text.split(":")
        if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            raise DbkeepError(f"{text!r} is no position in an append-only file; take a new set of Redis")
        return cls(incarnation, int(numbers[0]), int(numbers[1]))


@dataclass(frozen=True, slots=True)
class Held:
    """The incremental files that are kept, by number, the number of the first one after `base`, and whose they are."""

    folder: Path
    incarnation: str
    base: Path
    first: int
    files: dict[int, Path]

    @property
    def last(self) -> int:
        return max(self.files)

    @property
    def oldest(self) -> int:
        """The number of the first file from which on all are there; it may be from before `base`."""
        sequence = self.last
        while sequence - 1 in self.files:
            sequence -= 1
        return sequence

    def since(self, sequence: int) -> datetime:
        """Return when a file was seen first: a set whose fence began it is not older."""
        return datetime.fromtimestamp(_seen(self.files[sequence]).stat().st_mtime, UTC)

    def release(self, before: int) -> None:
        """Let go of the files with a smaller number: they are sealed."""
        for sequence, path in self.files.items():
            if sequence < before:
                path.unlink(missing_ok=True)
                _seen(path).unlink(missing_ok=True)


def hold(data_directory: Path) -> Held:
    """Link every incremental file that the instance has now, and return all that are kept.

    Raises DbkeepError when there is no append-only file, or it is on another file system than its folder.
    """
    folder = data_directory / HELD
    try:
        for _ in range(ATTEMPTS):
            base, live = _read_manifest(data_directory)
            folder.mkdir(mode=0o700, exist_ok=True)
            try:
                same = {_link(path, folder / str(sequence)) for sequence, path in live.items()}
            except FileNotFoundError:
                continue  # a rewrite ended in between
            if same != {True}:
                forget(data_directory)
                continue
            files = {int(path.name): path for path in folder.iterdir() if path.name.isdigit()}
            return Held(folder, _incarnation(folder), base, min(live), files)
    except OSError as error:
        raise DbkeepError(
            f"{folder}: the append-only file cannot be kept: {error.strerror}; look at the disk"
        ) from None
    raise DbkeepError(f"{data_directory}: the append-only file is rewritten all the time; read the log of the instance")


@contextmanager
def settled(data_directory: Path) -> Iterator[None]:
    """Keep a slice from ending while a set sets its fence, and the other way round.

    So a slice that ends before the moment of a fence has nothing that was written after it. Raises DbkeepError when the
    data directory cannot be written to.
    """
    folder = data_directory / HELD
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DbkeepError(f"{folder}: cannot be made: {error.strerror}; is it the instance's data directory?") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def forget(data_directory: Path) -> None:
    """Let go of everything that is kept: what the instance writes from now on does not follow on it."""
    for path in (data_directory / HELD).glob("*"):
        path.unlink(missing_ok=True)


def _link(path: Path, link: Path) -> bool:
    """Return whether `link` is the file `path` now; False when another file of that number was kept before."""
    if not link.exists():
        _seen(link).touch(mode=0o600)
    try:
        os.link(path, link)
    except FileExistsError:
        return link.samefile(path)
    return True


def _seen(link: Path) -> Path:
    return link.with_suffix(".seen")


def _incarnation(folder: Path) -> str:
    path = folder / INCARNATION
    if not path.exists():
        new = folder / f".{INCARNATION}.{os.getpid()}"
        write_atomically(new, secrets.token_hex(4), mode=0o600)
        try:
            # Whoever links first names it, when a backup and the slices begin at the same time.
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text(encoding="ascii")


def _read_manifest(data_directory: Path) -> tuple[Path, dict[int, Path]]:
    """Return the base file and the incremental files that the server's own manifest lists."""
    manifests = [path for path in data_directory.glob("*/*.manifest") if not path.name.startswith("temp-")]
    if len(manifests) != 1:
        raise DbkeepError(
            f"{data_directory}: has {len(manifests)} append-only files, not one; the instance needs appendonly yes: "
            "run `dbkeep apply`"
        )
    base, live = None, {}
    for line in manifests[0].read_text(encoding="utf-8").splitlines():
        words = shlex.split(line)
        entry = dict(zip(words[::2], words[1::2], strict=False))
        path = manifests[0].parent / entry.get("file", "")
        if entry.get("type") == "b":
            base = path
        elif entry.get("type") == "i":
            live[int(entry["seq"])] = path
    if base is None or not live:
        raise DbkeepError(f"{manifests[0]}: names no base or no incremental file; is this Redis 7 or newer?")
    return base, live


def write_manifest(folder: Path, name: str) -> tuple[Path, Path]:
    """Write the manifest of a new append-only file `name` in `folder`; return its base and incremental file to make."""
    base, incremental = folder / f"{name}.1.base.rdb", folder / f"{name}.1.incr.aof"
    lines = f"file {base.name} seq 1 type b\nfile {incremental.name} seq 1 type i\n"
    write_atomically(folder / f"{name}.manifest", lines, mode=0o600)
    return base, incremental
