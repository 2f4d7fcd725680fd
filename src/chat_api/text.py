"""The base text type: what every store can hold, nothing else."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue


def storable(text: str) -> str:
    """Return `text`; raises ValueError for a NUL (PostgreSQL refuses it) or a lone surrogate (it is not UTF-8)."""
    if "\x00" in text:
        raise ValueError("a NUL character cannot be stored")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a lone surrogate cannot be stored")
    return text


def storable_json(value: Any) -> Any:
    """Return `value` if PostgreSQL's jsonb holds it; raises ValueError for NUL, surrogates, NaN, or over 4096 bytes."""
    try:
        encoded = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(encoded.encode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("not storable JSON: NaN, infinity, a lone surrogate, or nested too deeply") from None
    if "\\u0000" in encoded:
        raise ValueError("a NUL character cannot be stored")
    if size > 4096:
        raise ValueError("longer than 4096 bytes")
    return value


Text = Annotated[str, AfterValidator(storable)]
Json = Annotated[JsonValue, AfterValidator(storable_json)]
