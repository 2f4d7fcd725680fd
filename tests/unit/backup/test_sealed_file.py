"""The store: what goes in comes out, a failed source leaves no file, damage and wrong keys are named."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.manifest import StoredFile
from dbkeep.backup.sealed_file import check, inflate, inflate_to, read_identities, seal, unseal
from dbkeep.commands.backup_options import read_identity_file
from dbkeep.errors import DbkeepError, UsageError

IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENTS = [str(IDENTITY.to_public())]
CONTENT = os.urandom(3_000_000)


def chunks(content: bytes = CONTENT, size: int = 70_000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def test_what_is_sealed_comes_back(tmp_path: Path) -> None:
    stored = seal(chunks(), tmp_path / "dump.zst.age", RECIPIENTS)
    assert stored.plain_size == len(CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["dump.zst.age"]
    assert (tmp_path / "dump.zst.age").stat().st_mode & 0o777 == 0o600
    unseal(tmp_path, stored, tmp_path / "dump.zst", str(IDENTITY))
    with inflate(tmp_path / "dump.zst") as stream:
        assert stream.read() == CONTENT
    inflate_to(tmp_path / "dump.zst", tmp_path / "dump")
    assert (tmp_path / "dump").read_bytes() == CONTENT


def test_an_empty_source_is_a_file_too(tmp_path: Path) -> None:
    stored = seal([], tmp_path / "empty", RECIPIENTS)
    unseal(tmp_path, stored, tmp_path / "empty.zst", str(IDENTITY))
    with inflate(tmp_path / "empty.zst") as stream:
        assert stream.read() == b""


def test_the_age_and_zstd_programs_open_it_without_this_toolkit(tmp_path: Path) -> None:
    seal(chunks(), tmp_path / "dump", RECIPIENTS)
    identity = tmp_path / "identity"
    identity.write_text(f"# made for this test\n{IDENTITY}\n")
    opened = subprocess.run(["age", "-d", "-i", identity, tmp_path / "dump"], capture_output=True, check=True)
    assert subprocess.run(["zstd", "-dc"], input=opened.stdout, capture_output=True, check=True).stdout == CONTENT


def test_a_source_that_fails_leaves_no_file_and_its_own_error(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT
        raise DbkeepError("the server went away")

    with pytest.raises(DbkeepError, match="the server went away"):
        seal(broken(), tmp_path / "dump", RECIPIENTS)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100 kB, which a writer notices as it notices a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DbkeepError, match=r"dump: cannot be written: .*; the earlier sets are untouched"):
        seal(chunks(), tmp_path / "dump", RECIPIENTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("position", [0, 200, 1_500_000, -1])
def test_every_flipped_byte_is_found(tmp_path: Path, position: int) -> None:
    stored = seal(chunks(), tmp_path / "dump", RECIPIENTS)
    content = bytearray((tmp_path / "dump").read_bytes())
    content[position] ^= 1
    (tmp_path / "dump").write_bytes(content)
    with pytest.raises(DbkeepError, match="altered"):
        check(tmp_path, stored)
    # Even with a manifest that was altered as well, age refuses the content and nothing is handed out.
    with pytest.raises(DbkeepError):
        unseal(tmp_path, forged(tmp_path / "dump", stored), tmp_path / "out", str(IDENTITY))
    assert not (tmp_path / "out").exists()


def forged(path: Path, stored: StoredFile) -> StoredFile:
    """What the manifest would say if whoever altered the file altered it too."""
    content = path.read_bytes()
    return stored.model_copy(update={"size": len(content), "sha256": hashlib.sha256(content).hexdigest()})


def test_a_truncated_file_hands_out_nothing(tmp_path: Path) -> None:
    stored = seal(chunks(), tmp_path / "dump", RECIPIENTS)
    (tmp_path / "dump").write_bytes((tmp_path / "dump").read_bytes()[:-5])
    with pytest.raises(DbkeepError, match=r"truncated: .* bytes, the manifest says"):
        unseal(tmp_path, stored, tmp_path / "out", str(IDENTITY))
    with pytest.raises(DbkeepError, match="cannot be decrypted"):
        unseal(tmp_path, forged(tmp_path / "dump", stored), tmp_path / "out", str(IDENTITY))
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    stored = seal([b"x"], tmp_path / "dump", RECIPIENTS)
    (tmp_path / "dump").unlink()
    with pytest.raises(DbkeepError, match=f"{tmp_path}/dump: missing"):
        check(tmp_path, stored)


def test_another_identity_is_refused(tmp_path: Path) -> None:
    stored = seal([b"x"], tmp_path / "dump", RECIPIENTS)
    with pytest.raises(DbkeepError, match="the identity does not open it"):
        unseal(tmp_path, stored, tmp_path / "out", str(pyrage.x25519.Identity.generate()))


def test_a_second_recipient_opens_it_as_well(tmp_path: Path) -> None:
    other = pyrage.x25519.Identity.generate()
    stored = seal([b"x"], tmp_path / "dump", [*RECIPIENTS, str(other.to_public())])
    unseal(tmp_path, stored, tmp_path / "out", str(other))


def test_keys_that_are_none_are_refused_without_showing_a_secret(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'age1nonsense' is not an age public key"):
        seal([b"x"], tmp_path / "dump", ["age1nonsense"])
    with pytest.raises(UsageError) as refused:
        read_identities("AGE-SECRET-KEY-1NONSENSE")
    assert "NONSENSE" not in str(refused.value)


def test_an_identity_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "drill.key"
    with pytest.raises(UsageError, match=r"drill\.key: the identity cannot be read: .*No such file"):
        read_identity_file(file)
    file.write_text(f"{IDENTITY}\n")
    file.chmod(0o644)
    with pytest.raises(UsageError, match=r"drill\.key has mode 0644, so others can read the identity"):
        read_identity_file(file)
    file.chmod(0o600)
    assert read_identity_file(file) == f"{IDENTITY}\n"
