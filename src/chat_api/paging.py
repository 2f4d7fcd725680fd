"""Keyset paging: a page begins after a place in the index, so that page 1000 costs what page 1 costs.

A cursor spells that place, a time and an id. It grants nothing: every query filters by the acting user all the same.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from bson import ObjectId
from fastapi import Query
from pydantic import StringConstraints

from chat_api.problems import Problem

MOST = 100
Limit = Annotated[int, Query(ge=1, le=MOST)]
CursorText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{27}$"), Query()]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an index on (time, _id), newest first."""

    at: datetime
    id: ObjectId

    @property
    def text(self) -> str:
        """20 bytes (milliseconds since the epoch, ObjectId) in URL-safe base64."""
        milliseconds = (self.at - _EPOCH) // _MILLISECOND
        return base64.urlsafe_b64encode(milliseconds.to_bytes(8, "big") + self.id.binary).rstrip(b"=").decode("ascii")

    def older(self, time_field: str) -> dict[str, object]:
        """Return the filter for what comes after this place, towards the past.

        The first condition bounds the index scan; the second one only leaves out entries of the same millisecond.
        """
        return {time_field: {"$lte": self.at}, "$or": [{time_field: {"$lt": self.at}}, {"_id": {"$lt": self.id}}]}

    def newer(self, time_field: str) -> dict[str, object]:
        """Return the filter for what comes before this place, towards the present; as `older`."""
        return {time_field: {"$gte": self.at}, "$or": [{time_field: {"$gt": self.at}}, {"_id": {"$gt": self.id}}]}


def parse(text: str) -> Cursor:
    """Return the cursor that `text` spells; raises a 422 Problem for what the API never gave."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return Cursor(_EPOCH + int.from_bytes(raw[:8], "big") * _MILLISECOND, ObjectId(raw[8:]))
    except (ValueError, OverflowError, binascii.Error):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The cursor is not one of ours.") from None
