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
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

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
    """Encrypts with the newest key-encryption key and decrypts with any of `keys` (version to 32 bytes)."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = dict(keys)
        self._newest = max(keys)

    def __repr__(self) -> str:
        return f"FieldCipher(versions={sorted(self._keys)})"

    def encrypt(self, text: str, cell: Cell) -> str:
        data_key = AESGCM.generate_key(256)
        wrapped = aes_key_wrap(self._keys[self._newest], data_key)
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(data_key).encrypt(nonce, text.encode(), self._bound(cell, self._newest))
        return f"{FORMAT}:{self._newest}:{_encode(wrapped)}:{_encode(sealed)}"

    def decrypt(self, value: str, cell: Cell) -> str:
        """Return the text of `value`; raises DecryptionError if it is not exactly what `encrypt` made for `cell`."""
        try:
            form, version, wrapped, sealed = value.split(":")
            if form != FORMAT:
                raise ValueError(form)
            data_key = aes_key_unwrap(self._keys[int(version)], _decode(wrapped))
            secret = _decode(sealed)
            bound = self._bound(cell, int(version))
            return AESGCM(data_key).decrypt(secret[:NONCE_BYTES], secret[NONCE_BYTES:], bound).decode()
        except (ValueError, KeyError, InvalidUnwrap, InvalidTag, binascii.Error):
            raise DecryptionError(f"{cell.table}.{cell.column} of row {cell.row} does not decrypt") from None

    @staticmethod
    def _bound(cell: Cell, version: int) -> bytes:
        return f"{FORMAT}\x1f{version}\x1f".encode() + cell.associated_data


class BlindIndex:
    """Finds an encrypted value by equality: HMAC-SHA-256 (RFC 2104) of its normal form, keyed per column."""

    def __init__(self, key: bytes, table: str, column: str) -> None:
        self._key = hmac.digest(key, f"blind index of {table}.{column}".encode(), hashlib.sha256)

    def __repr__(self) -> str:
        return "BlindIndex()"

    def of(self, normal_form: str) -> bytes:
        return hmac.digest(self._key, normal_form.encode(), hashlib.sha256)


def normal_address(address: str) -> str:
    """Return the form of an email address that decides whether two are the same: NFKC, without case."""
    return unicodedata.normalize("NFKC", address.strip()).casefold()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
