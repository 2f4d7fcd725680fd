"""Small records that a host writes beside its sets, each signed in the file itself: slices of logs, and points."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from dbkeep.backup.manifest import Record
from dbkeep.backup.signature import check_signature, sign
from dbkeep.errors import DbkeepError, UsageError

R = TypeVar("R", bound="SignedRecord")


class SignedRecord(Record, ABC):
    """A record whose `signature` is that of all its other fields, in base64; empty before it is signed."""

    signature: str = ""

    def signed(self: R, key_file: Path) -> R:
        """Return the record with its signature. Raises UsageError for a key file that is not right."""
        made = base64.b64encode(sign(_content(self.model_dump(mode="json")), key_file)).decode()
        return self.model_copy(update={"signature": made})

    def render(self) -> str:
        """Return the text of the record's file."""
        return self.model_dump_json(indent=2) + "\n"

    @property
    @abstractmethod
    def key(self) -> str:
        """The path of the record below the repository, which is its key in a store."""


def parse_signed(
    model: type[R], content: bytes, key: str, signing_keys: Sequence[str], *, where: str, instead: str
) -> R:
    """Return the record that a host of the environment wrote and signed as `key`. Its signature is looked at first.

    Raises DbkeepError that begins with `where` and ends with what to do `instead`, when none of the keys signed it or
    it is not as it was written; UsageError for a public key that is none.
    """
    try:
        record = json.loads(content)
        signature = base64.b64decode(record["signature"], validate=True)
        check_signature(_content(record), signature, signing_keys, where)
        found = model.model_validate(record)
    except (ValueError, TypeError, KeyError):
        raise DbkeepError(f"{where}: the record is damaged: it cannot be read; {instead}") from None
    except UsageError:
        raise
    except DbkeepError:
        raise DbkeepError(
            f"{where}: the record is damaged, or no host of this environment wrote it: no key of backup_signing_keys "
            f"signed it; {instead}"
        ) from None
    if found.key != key or found.render().encode() != content:
        raise DbkeepError(f"{where}: the record is damaged: it is that of {found.key}, or was written anew; {instead}")
    return found


def _content(record: dict[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in record.items() if key != "signature"}, sort_keys=True).encode()
