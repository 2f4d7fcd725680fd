"""What must not restore does not: a wrong key, a flipped byte, a truncated and a missing file are each refused.

All of it is done to a copy of one file of the part, never to the set. A damaged set that restores, or one that opens to
any key, is worse than none: nobody would look for another.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyrage

from dbkeep.backup.drill.proof import Proof
from dbkeep.backup.manifest import Part, StoredFile
from dbkeep.backup.sealed_file import check, unseal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError

SEALED = ".age"


def refuse(host: BackupHost, part: Part, identity: str, folder: Path, proof: Proof) -> None:
    """Try to open a part with another key, and damaged copies of a file of it; note for each whether it was refused."""
    stored = _smallest(part)
    repository, copies = host.settings.repository, folder / "damaged"
    opened = folder / "opened"

    def unsealed(source: Path, key: str) -> Callable[[], None]:
        return lambda: unseal(source, stored, opened, key)

    sealed = stored.name.endswith(SEALED)
    if sealed:
        other = str(pyrage.x25519.Identity.generate())
        _expect(proof, "another identity", "does not open it", unsealed(repository, other))
    else:
        stanza = part.details["stanza"]
        _expect(proof, "another passphrase", f"stanza {stanza}", lambda: _with_another_passphrase(host, stanza, folder))
    path = copies / stored.name
    path.parent.mkdir(mode=0o700, parents=True)
    shutil.copyfile(repository / stored.name, path)
    attempt = unsealed(copies, identity) if sealed else lambda: check(copies, stored)
    _flip(path)
    _expect(proof, "a flipped byte", "altered", attempt)
    if sealed:
        _expect(proof, "a flipped byte, were the digest right", "decrypt", lambda: _decrypted(path, opened, identity))
    _flip(path)
    os.truncate(path, stored.size - 1)
    _expect(proof, "a truncated file", "truncated", attempt)
    path.unlink()
    _expect(proof, "a missing file", "missing", attempt)
    opened.unlink(missing_ok=True)
    shutil.rmtree(copies)


def _smallest(part: Part) -> StoredFile:
    """Return the smallest file of a part that can be truncated, a sealed one where there are some."""
    files = [stored for stored in part.stored_files() if stored.size > 1]
    if not files:
        raise DbkeepError(f"{part.engine}: set {part.set_id} names no file")
    sealed = [stored for stored in files if stored.name.endswith(SEALED)]
    return min(sealed or files, key=lambda stored: stored.size)


def _expect(proof: Proof, what: str, reason: str, attempt: Callable[[], None]) -> None:
    """Note whether `attempt` was refused for `reason`: any other failure, such as a full disk, proves nothing."""
    try:
        attempt()
    except DbkeepError as error:
        proof.that(f"{what} is refused", "refused", str(error), reason in str(error))
    else:
        proof.that(f"{what} is refused", "refused", "accepted", holds=False)


def _flip(path: Path) -> None:
    with path.open("r+b") as stream:
        middle = stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(middle)
        stream.write(bytes([byte ^ 1]))


def _decrypted(path: Path, target: Path, identity: str) -> None:
    """Decrypt without asking the manifest: the encryption itself must notice (age-encryption.org/v1, "Payload")."""
    keys = [pyrage.x25519.Identity.from_str(line) for line in identity.split() if line.startswith("AGE-SECRET-KEY-1")]
    try:
        with path.open("rb") as source, target.open("wb") as out:
            pyrage.decrypt_io(source, out, keys)
    except pyrage.DecryptError as error:
        raise DbkeepError(f"{path}: decrypt: {error}") from None
    except OSError as error:
        # What age finds in the payload comes as an error of reading that has no number; a full disk has one.
        raise DbkeepError(f"{path}: {error.strerror if error.errno else f'decrypt: {error}'}") from None


def _with_another_passphrase(host: BackupHost, stanza: str, folder: Path) -> None:
    from dbkeep.backup.pgbackrest import PgBackRest  # noqa: PLC0415 - only where PostgreSQL is backed up

    settings = host.with_postgresql()[0]
    text = settings.configuration.read_text(encoding="utf-8")
    changed = re.sub(r"(?m)^(repo1-cipher-pass=).*$", r"\1another-passphrase-of-a-drill", text)
    configuration = folder / "pgbackrest.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(changed, encoding="utf-8")
    if os.geteuid() == 0:
        shutil.chown(configuration, settings.os_user)
    try:
        PgBackRest(stanza, configuration, settings.os_user, settings.repository).info()
    finally:
        configuration.unlink()
