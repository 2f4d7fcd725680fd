"""Signatures: by the right key, of the right bytes, and a key that is not right is refused without repeating it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbkeep.backup.signature import check_key, check_signature, new_signing_key, public_half, public_pem, sign
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.tls import new_private_key


def key_file(folder: Path, key: str, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(key)
    path.chmod(mode)
    return path


def test_a_signature_holds_for_its_bytes_and_its_key_only(tmp_path: Path) -> None:
    old, new, other = (new_signing_key() for _ in range(3))
    signed = sign(b"content", key_file(tmp_path, old))
    check_signature(b"content", signed, [public_half(new), public_half(old)], "here")
    for content, signature, keys in (
        (b"Content", signed, [public_half(old)]),
        (b"content", signed, [public_half(other)]),
        (b"content", signed[:-1], [public_half(old)]),
        (b"content", b"", [public_half(old)]),
        (b"content", signed, []),
    ):
        with pytest.raises(DbkeepError, match="here: not signed by a key of backup_signing_keys"):
            check_signature(content, signature, keys, "here")
    with pytest.raises(DbkeepError, match="here: not signed: it is older than the environment's signing key, or"):
        check_signature(b"content", None, [public_half(old)], "here")


@settings(deadline=None, max_examples=30)
@given(place=st.integers(0, 63), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_signature_is_taken(place: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    key = new_signing_key()
    signed = bytearray(sign(b"content", key_file(tmp_path_factory.mktemp("key"), key)))
    signed[place] ^= 1 << bit
    with pytest.raises(DbkeepError):
        check_signature(b"content", bytes(signed), [public_half(key)], "here")


def test_openssl_alone_checks_it(tmp_path: Path) -> None:
    key = new_signing_key()
    (tmp_path / "sums").write_bytes(b"content")
    (tmp_path / "sums.sig").write_bytes(sign(b"content", key_file(tmp_path, key)))
    (tmp_path / "public.pem").write_text(public_pem(public_half(key)))
    check = "openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in sums -sigfile sums.sig"
    command = check.split()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "sums").write_bytes(b"other")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_a_key_that_is_not_right_is_refused_and_never_repeated(tmp_path: Path) -> None:
    key = new_signing_key()
    secret = key.splitlines()[1]
    with pytest.raises(UsageError, match="the signing key cannot be read: No such file or directory"):
        sign(b"", tmp_path / "none")
    with pytest.raises(UsageError, match="has mode 0644, so others can sign with the key") as open_to_others:
        sign(b"", key_file(tmp_path, key, 0o644))
    for wrong in (new_private_key(), "nothing", key.replace("END", "EDN")):
        with pytest.raises(UsageError, match=r"backup\.signing_key is not an Ed25519 private key"):
            sign(b"", key_file(tmp_path, wrong))
    with pytest.raises(UsageError, match="its public half is not in backup_signing_keys") as unknown:
        check_key(key_file(tmp_path, key), [public_half(new_signing_key())])
    check_key(key_file(tmp_path, key), [public_half(key)])
    assert secret not in str(open_to_others.value) + str(unknown.value)
    with pytest.raises(UsageError, match="backup_signing_keys: 'MCow' is not an Ed25519 public key"):
        check_signature(b"", b"", ["MCow"], "here")
