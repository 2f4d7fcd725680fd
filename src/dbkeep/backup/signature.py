"""Signatures of what backups hold: a host's key makes them, and no store and no recipient can.

What is encrypted to public keys can be made by anyone who knows them. Only a signature says that a host of this
environment wrote it. The format is plain Ed25519 (RFC 8032), so that openssl(1) checks it too.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.files import open_mode

SUFFIX = ".sig"


def new_signing_key() -> str:
    """Return a new private key as PEM (PKCS #8)."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def public_half(private_key: str) -> str:
    """Return the public key of a private one in a line: base64 of its DER, what stands between the lines of a PEM.

    Raises UsageError, never repeating the key, when it is not an Ed25519 key in PEM.
    """
    content = (
        _load(private_key)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return base64.b64encode(content).decode()


def public_pem(public_key: str) -> str:
    """Return a public key of one line as PEM, as openssl reads it. Raises UsageError when it is none."""
    return (
        _public(public_key)
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def sign(content: bytes, key_file: Path) -> bytes:
    """Return the signature of `content`: 64 bytes. Raises UsageError for a key file that is not right."""
    return _load(read_key_file(key_file)).sign(content)


def check_key(key_file: Path, public_keys: Sequence[str]) -> None:
    """Refuse to sign with a key whose signatures no reader would take: raises UsageError."""
    if public_half(read_key_file(key_file)) not in public_keys:
        raise UsageError(
            f"{key_file}: its public half is not in backup_signing_keys, so nothing that it signs would be restored; "
            "run `dbkeep init ENV` and then playbooks/site.yml"
        )


def check_signature(content: bytes, signature: bytes | None, public_keys: Sequence[str], where: str) -> None:
    """Return when one of the keys signed `content`.

    Raises DbkeepError that begins with `where` when there is no signature or none of the keys made it, UsageError for
    a public key that is none.
    """
    if signature is None:
        raise DbkeepError(
            f"{where}: not signed: it is older than the environment's signing key, or no host of it wrote it; take "
            "another set (a set that this host took before it had the key: `dbkeep backup sign`)"
        )
    for key in public_keys:
        try:
            _public(key).verify(signature, content)
        except InvalidSignature:
            continue
        return
    raise DbkeepError(
        f"{where}: not signed by a key of backup_signing_keys: it is damaged, or no host of this environment wrote it; "
        "take another set"
    )


def read_key_file(path: Path) -> str:
    """Return the private key in a file; raises UsageError when it is missing, or open to others than its owner."""
    try:
        mode = open_mode(path)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"{path}: the signing key cannot be read: {reason}; run playbooks/site.yml") from None
    if mode:
        raise UsageError(
            f"{path} has mode {mode}, so others can sign with the key: take backup.signing_key out of the vault, run "
            "`dbkeep init ENV` for a new one, then playbooks/site.yml"
        )
    return text


def _load(text: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            "backup.signing_key is not an Ed25519 private key in PEM; take it out and run `dbkeep init ENV`"
        )
    return key


def _public(text: str) -> Ed25519PublicKey:
    try:
        key = serialization.load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"backup_signing_keys: {text!r} is not an Ed25519 public key; run `dbkeep init ENV`")
    return key
