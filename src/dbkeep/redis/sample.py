"""What live keys are like, by a bounded sample: where they begin, their types and times to live.

Names are looked at and never returned, since an id or a token may stand in one, and values are not read at all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.client import NEVER_DECODE

from dbkeep.redis.declared import Keyspace

KEYS = 5000
SECONDS = 2.0
BATCH = 500
"""One call of SCAN looks at about so many keys: the server answers nobody else meanwhile."""
NO_PREFIX = "(no prefix)"

_WORD = re.compile(r"[a-z][a-z_-]{0,15}:")


def shown_prefix(name: str) -> str:
    """Return the word with which a key's name begins, such as "sess:", or NO_PREFIX: anything else may be an id."""
    found = _WORD.match(name)
    return found[0] if found else NO_PREFIX


def sample(
    client: redis.Redis, instance: str, keyspaces: Sequence[Keyspace], *, keys: int = KEYS, seconds: float = SECONDS
) -> dict[str, Any]:
    """Compare up to `keys` keys of `instance`, for up to `seconds`, with what is declared.

    Returns how many there were (`sampled`, `all`) and for each prefix `keys`, and of them those `without_expiry`, those
    that `expire_too_late`, those `of_wrong_type`, and `on_wrong_instance` or `undeclared`.
    """
    until, number = time.monotonic() + seconds, client.dbsize()
    seen: set[bytes] = set()
    prefixes: dict[str, dict[str, int]] = {}
    for batch in _names(client, keys, until):
        new = [name for name in batch if name not in seen]
        seen.update(new)
        for name, kind, left in _look_at(client, new):
            _count(prefixes, _place(name, instance, keyspaces), kind, left)
    return {"sampled": len(seen), "all": number, "prefixes": dict(sorted(prefixes.items()))}


def _names(client: redis.Redis, keys: int, until: float) -> Iterator[list[bytes]]:
    """Yield names in the order of SCAN, and when half of `keys` are not all, others at random.

    SCAN begins at the same keys every time, so that by it alone some would never be looked at.
    """
    cursor, number = 0, 0
    while number < keys / 2 and time.monotonic() < until:
        cursor, batch = client.execute_command("SCAN", cursor, "COUNT", BATCH, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
        yield batch
        number += len(batch)
        if not cursor:
            return
    while number < keys and time.monotonic() < until:
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(BATCH):
                pipeline.execute_command("RANDOMKEY", **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
            yield list(dict.fromkeys(name for name in pipeline.execute() if name is not None))
        number += BATCH


def _look_at(client: redis.Redis, names: list[bytes]) -> Iterator[tuple[str, str, int]]:
    """Yield name, type and milliseconds to live (-1 for ever) of the keys that are still there."""
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.type(name)
            pipeline.pttl(name)
        answers = pipeline.execute()
    for name, kind, left in zip(names, answers[::2], answers[1::2], strict=True):
        if left != -2:
            yield name.decode("utf-8", "replace"), kind, left


def _place(name: str, instance: str, keyspaces: Sequence[Keyspace]) -> tuple[str, Keyspace | None, str | None]:
    """Return what is shown of the name, the keyspace it is in, and what is wrong with where it is."""
    known = max((k for k in keyspaces if name.startswith(k.prefix)), key=lambda k: len(k.prefix), default=None)
    if known is None:
        return shown_prefix(name), None, "undeclared"
    return known.prefix, known, None if known.instance == instance else "on_wrong_instance"


def _count(
    prefixes: dict[str, dict[str, int]], place: tuple[str, Keyspace | None, str | None], kind: str, left: int
) -> None:
    prefix, keyspace, misplaced = place
    found = {
        "without_expiry": left == -1,
        "expire_too_late": keyspace is not None and left > keyspace.ttl_seconds.maximum * 1000,
        "of_wrong_type": keyspace is not None and kind not in keyspace.types,
        "on_wrong_instance": misplaced == "on_wrong_instance",
        "undeclared": misplaced == "undeclared",
    }
    counts = prefixes.setdefault(prefix, {"keys": 0, **dict.fromkeys(found, 0)})
    counts["keys"] += 1
    for name, wrong in found.items():
        counts[name] += wrong
