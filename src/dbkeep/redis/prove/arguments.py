"""Arguments that a command takes, made from the server's own description of it (COMMAND DOCS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import cycle
from typing import Any


class Slot(Enum):
    """A place for what a trial puts in."""

    KEY = "key"
    CHANNEL = "channel"


Word = str | Slot
Argument = Mapping[str, Any]

REPEATED = 2
"""How often an argument stands that may stand many times: two keys, so that one can be another's."""
CHANNELS = frozenset({"channel", "shardchannel"})
CHANNEL_PATTERNS = frozenset({"psubscribe", "punsubscribe"})
# By an argument's name, where a value of its type would be refused before it says anything.
VALUES = {
    "db": "0",
    "destination-db": "0",
    "host": "127.0.0.1",
    "numfields": str(REPEATED),
    "numkeys": str(REPEATED),
    "operation": "AND",
    "path": "/nonexistent",
    "pattern": "*",
    "script": "return 1",
    "sha1": "0" * 40,
    "username": "dbkeep-probe",
}
BY_TYPE = {"double": "0.01", "unix-time": "9999999999999", "pattern": "*"}
SMALL = "1"


def words(name: str, arguments: Sequence[Argument], least: int, values: Mapping[str, str]) -> tuple[Word, ...]:
    """Return the shortest form of the command `name`, at least `least` words, with every mandatory argument.

    `values` are for arguments by their names. Optional keys that have a place stand in it too: EVAL needs none.
    """
    head: tuple[Word, ...] = tuple(word.upper() for word in name.split("|"))
    made = (*head, *_all(name, arguments, {**VALUES, **values}))
    return (*made, *[SMALL] * (least - len(made)))


def fill(template: Sequence[Word], keys: Sequence[str], channel: str) -> list[str]:
    """Return the template with `keys` in the places for keys, over and over, and `channel` in those for channels."""
    supply = cycle(keys)
    return [next(supply) if word is Slot.KEY else channel if isinstance(word, Slot) else word for word in template]


def _all(name: str, arguments: Sequence[Argument], values: Mapping[str, str]) -> Iterator[Word]:
    for argument in arguments:
        flags, token = argument.get("flags", ()), argument.get("token")
        if "optional" in flags and not (argument["type"] == "key" and token is None):
            continue
        for number in range(REPEATED if "multiple" in flags else 1):
            if token is not None and (number == 0 or "multiple_token" in flags):
                yield token
            yield from _value(name, argument, values)


def _value(name: str, argument: Argument, values: Mapping[str, str]) -> Iterator[Word]:
    kind = argument["type"]
    if kind == "oneof":
        yield from _all(name, [_fields(argument["arguments"][0])], values)
    elif kind == "block":
        yield from _all(name, [_fields(one) for one in argument["arguments"]], values)
    elif kind == "key":
        yield Slot.KEY
    elif argument["name"] in CHANNELS or (kind == "pattern" and name in CHANNEL_PATTERNS):
        yield Slot.CHANNEL
    elif kind != "pure-token":
        yield values.get(argument["name"], BY_TYPE.get(kind, SMALL))


def _fields(entry: Any) -> Argument:
    return entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
