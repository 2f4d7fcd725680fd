"""One stream becomes one file, zstd inside age, and back.

The pipeline is one process (age's reader pulls from zstd's reader, which pulls from the source), so that a stage that
fails is an exception of the whole and not a silent end of a pipe. A file gets its final name only when complete.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyrage
import zstandard

from dbkeep.backup.manifest import StoredFile
from dbkeep.errors import DbkeepError, UsageError

ZSTD_LEVEL = 3
BLOCK = 1 << 20


class _Source:
    """An iterable of byte strings as a readable file; the first error of the source is kept for the caller."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.size = 0
        self.error: BaseException | None = None

    def read(self, size: int = -1, /) -> bytes:
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return b""
        except BaseException as error:
            self.error = error
            raise
        # A chunk is far larger than a piece: slicing its bytes would copy what is left of it each time.
        piece = bytes(self._rest if size < 0 else self._rest[:size])
        self._rest = self._rest[len(piece) :]
        self.size += len(piece)
        return piece


class Digest:
    """A writable file that hashes and counts what passes through it, to `target` if there is one."""

    def __init__(self, target: BinaryIO | None = None) -> None:
        self._target = target
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self.size += len(data)
        return self._target.write(data) if self._target else len(data)

    def flush(self) -> None:
        if self._target:
            self._target.flush()

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def private(path: Path) -> BinaryIO:
    """Open a file for writing that only its owner may read (mode 0600)."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def publish(partial: Path, path: Path) -> None:
    """Give a complete, closed file its final name, durably: file, rename and folder are all synced."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_recipients(recipients: Sequence[str]) -> list[pyrage.x25519.Recipient]:
    """Return age public keys ready for use; raises UsageError naming the one that is not a key."""
    keys = []
    for text in recipients:
        try:
            keys.append(pyrage.x25519.Recipient.from_str(text))
        except pyrage.RecipientError:
            raise UsageError(f"backup_age_recipients: {text!r} is not an age public key (age1...)") from None
    return keys


def read_identities(text: str) -> list[pyrage.x25519.Identity]:
    """Return the age identities in `text`, one a line as in an identity file; any of them may open a set.

    Raises UsageError, never repeating the text, when it is not that.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        identities = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError:
        identities = []
    if not identities:
        raise UsageError("the identity is not an age identity (AGE-SECRET-KEY-1...); give the drill's")
    return identities


def seal(chunks: Iterable[bytes], path: Path, recipients: Sequence[str]) -> StoredFile:
    """Write `chunks`, compressed and encrypted to `recipients`, to `path` (mode 0600); a failure makes no `path`.

    Raises whatever the source raises, DbkeepError when encryption or the disk fails.
    """
    keys = read_recipients(recipients)
    partial = path.with_name(path.name + ".partial")
    source = _Source(chunks)
    try:
        with private(partial) as stream:
            digest = Digest(stream)
            with zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).stream_reader(
                cast(IO[bytes], source)
            ) as compressed:
                pyrage.encrypt_io(compressed, digest, keys)
        publish(partial, path)
    except (OSError, pyrage.EncryptError, zstandard.ZstdError) as error:
        partial.unlink(missing_ok=True)
        if source.error is not None:
            raise source.error from None
        raise DbkeepError(f"{path}: cannot be written: {error}; the earlier sets are untouched") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return StoredFile(name=path.name, size=digest.size, sha256=digest.hexdigest(), plain_size=source.size)


def check(folder: Path, stored: StoredFile) -> None:
    """Compare a stored file with its manifest entry, without decrypting it.

    Raises DbkeepError: missing, truncated, or altered.
    """
    path = folder / stored.name
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DbkeepError(f"{path}: missing; this set cannot be restored, take another one") from None
    digest = ""
    if size == stored.size:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    compare(str(path), size, digest, stored)


def compare(where: str, size: int, sha256: str, stored: StoredFile) -> None:
    """Compare the size and digest that were found with a manifest entry; raises DbkeepError naming `where`."""
    if size != stored.size:
        what = "truncated" if size < stored.size else "longer than it was"
        raise DbkeepError(f"{where}: {what}: {size} bytes, the manifest says {stored.size}; take another set")
    if sha256 != stored.sha256:
        raise DbkeepError(f"{where}: altered: its SHA-256 is not the manifest's; take another set")


def unseal(folder: Path, stored: StoredFile, target: Path, identity: str) -> None:
    """Check a stored file against its manifest entry, then decrypt it to `target`, still compressed (mode 0600).

    age hands out data before it has seen the end of a file, so nothing may read `target` before this returns.
    Raises DbkeepError when the file is damaged or the identity does not open it.
    """
    check(folder, stored)
    path = folder / stored.name
    keys = read_identities(identity)
    try:
        with path.open("rb") as source, private(target) as out:
            pyrage.decrypt_io(source, out, keys)
    except pyrage.DecryptError:
        target.unlink(missing_ok=True)
        raise DbkeepError(
            f"{path}: the identity does not open it; give the identity of one of the set's recipients"
        ) from None
    except OSError as error:
        target.unlink(missing_ok=True)
        raise DbkeepError(f"{path}: cannot be decrypted to {target}: {error}") from None


def inflate(path: Path) -> BinaryIO:
    """Open a file that `unseal` made for reading its plain content."""
    return io.BufferedReader(cast(io.RawIOBase, zstandard.open(path, "rb")), BLOCK)


def inflate_to(path: Path, target: Path) -> None:
    """Write the plain content of a file that `unseal` made to `target` (mode 0600).

    Raises DbkeepError when it cannot be written.
    """
    try:
        with inflate(path) as source, private(target) as out:
            while block := source.read(BLOCK):
                out.write(block)
    except OSError as error:
        raise DbkeepError(f"{target}: cannot be written: {error.strerror}; make room on its disk") from None
