"""What happened when a user tried a command: done, denied, or refused for another reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import NotPrimaryError, OperationFailure

from dbkeep.mongodb.connect import Client, Document

# MongoDB's error codes (src/mongo/base/error_codes.yml).
UNAUTHORIZED = 13
LOGON_REFUSED = 18
DOCUMENT_INVALID = 121
DUPLICATE_KEY = 11000
NOT_PRIMARY = 10107
NO_SUCH_COMMAND = 59


@dataclass(frozen=True, slots=True)
class Attempt:
    """`code` is None when the command was done; a write counts as refused when one of its documents was.

    Some refusals have no code of their own; theirs is 0.
    """

    code: int | None
    message: str = ""
    reply: Document | None = None

    @property
    def is_denied(self) -> bool:
        """Whether it was refused for want of rights. With any other answer authorization was passed."""
        return self.code == UNAUTHORIZED

    @property
    def is_done(self) -> bool:
        return self.code is None

    def __str__(self) -> str:
        return "done" if self.code is None else f"code {self.code}: {self.message[:90]}"


def attempt(client: Client, database: str, command: Document, session: ClientSession | None = None) -> Attempt:
    """Try a command; raises PyMongoError when the connection fails, not when the server refuses."""
    try:
        reply = client[database].command(command, session=session)
    except OperationFailure as error:
        # Else the logon of the client itself was refused, before the command was sent.
        if error.code == LOGON_REFUSED and "saslStart" not in command:
            raise
        return Attempt(error.code or 0, str((error.details or {}).get("errmsg", error)))
    except NotPrimaryError as error:
        return Attempt(NOT_PRIMARY, str((error.details or {}).get("errmsg", error)))  # type: ignore[union-attr]
    for failed in reply.get("writeErrors", ()):
        return Attempt(int(failed["code"]), failed.get("errmsg", ""), reply)
    return Attempt(None, reply=reply)


def write_codes(reply: Document, count: int) -> list[int | None]:
    """Return for each of `count` writes of one command the code that it was refused with, None when it was done."""
    codes: list[int | None] = [None] * count
    for failed in reply.get("writeErrors", ()):
        codes[failed["index"]] = int(failed["code"])
    return codes


def first_batch(tried: Attempt) -> list[Any]:
    """Return the documents of a query that was done."""
    return list((tried.reply or {}).get("cursor", {}).get("firstBatch", ()))
