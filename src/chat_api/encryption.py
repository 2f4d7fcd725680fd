"""Encryption of fields that identify a person, and the blind index that finds them again.

A value is `e1:VERSION:WRAPPED:SEALED`: its own random data key, wrapped by the key-encryption key of that version
(AES key wrap, RFC 3394), and nonce plus AES-256-GCM ciphertext (NIST SP 800-38D), both in URL-safe base64. Table,
column and row id are associated data, so that a value moved to another row or column does not decrypt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import unicodedata
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from chat_api.key_ring import KeyRing

FORMAT = "e1"
NONCE_BYTES = 12


class DecryptionError(Exception):
    """A value was changed, moved, or encrypted with a key that is not here. The message holds no part of it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a value belongs."""

    table: str
    column: str
    row: UUID

    @property
    def associated_data(self) -> bytes:
        return f"{self.table}\x1f{self.column}\x1f{self.row}".encode()


class FieldCipher:
    """Encrypts with the newest key-encryption key of the ring and decrypts with any of it."""

    def __init__(self, ring: KeyRing) -> None:
        self._keys = dict(ring.keys)
        self.newest = ring.newest

    def __repr__(self) -> str:
        return f"FieldCipher(versions={sorted(self._keys)}, newest={self.newest})"

    def encrypt(self, text: str, cell: Cell) -> str:
        data_key = AESGCM.generate_key(256)
        wrapped = aes_key_wrap(self._keys[self.newest], data_key)
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(data_key).encrypt(nonce, text.encode(), self._bound(cell, self.newest))
        return f"{FORMAT}:{self.newest}:{_encode(wrapped)}:{_encode(sealed)}"

    def decrypt(self, value: str, cell: Cell) -> str:
        """Return the text of `value`; raises DecryptionError if it is not exactly what `encrypt` made for `cell`."""
        try:
            form, version, wrapped, sealed = value.split(":")
            number = int(version)
            if form != FORMAT or version != str(number):
                raise ValueError(form)
            data_key = aes_key_unwrap(self._keys[number], _decode(wrapped))
            secret = _decode(sealed)
            bound = self._bound(cell, number)
            return AESGCM(data_key).decrypt(secret[:NONCE_BYTES], secret[NONCE_BYTES:], bound).decode()
        except (ValueError, KeyError, InvalidUnwrap, InvalidTag, binascii.Error):
            raise DecryptionError(f"{cell.table}.{cell.column} of row {cell.row} does not decrypt") from None

    @staticmethod
    def _bound(cell: Cell, version: int) -> bytes:
        return f"{FORMAT}\x1f{version}\x1f".encode() + cell.associated_data


class BlindIndex:
    """Finds an encrypted value by equality: HMAC-SHA-256 (RFC 2104) of its normal form, keyed per column."""

    def __init__(self, ring: KeyRing, table: str, column: str) -> None:
        purpose = f"blind index of {table}.{column}".encode()
        self._keys = {version: hmac.digest(key, purpose, hashlib.sha256) for version, key in ring.keys.items()}
        self._newest = ring.newest

    def __repr__(self) -> str:
        return f"BlindIndex(versions={sorted(self._keys)}, newest={self._newest})"

    def of(self, normal_form: str) -> bytes:
        """Return the index to store."""
        return self._digest(self._newest, normal_form)

    def candidates(self, normal_form: str) -> dict[int, bytes]:
        """Return every index that may be stored, by version, the oldest first: more than one while keys change."""
        return {version: self._digest(version, normal_form) for version in sorted(self._keys)}

    def _digest(self, version: int, normal_form: str) -> bytes:
        return hmac.digest(self._keys[version], normal_form.encode(), hashlib.sha256)


def normal_address(address: str) -> str:
    """Return the form of an email address that decides whether two are the same: NFKC, without case."""
    return unicodedata.normalize("NFKC", address.strip()).casefold()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    # The last character may have bits that stand for nothing: only one spelling of a value is good.
    if _encode(data) != text:
        raise ValueError("not as encoded")
    return data
