"""Every command that a server knows, subcommands included, with arguments that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbkeep.redis.prove.arguments import Slot, Word, fill, words

# A client that has not logged on may say these, so that no user can be kept from them (CMD_NO_AUTH).
NO_AUTH = "no_auth"
WRITES = frozenset({"insert", "update", "delete"})
READS = "access"
# The rights to a channel are asked for by these commands only (manual: ACL, "Pub/Sub").
BY_CHANNEL = frozenset({"publish", "spublish", "subscribe", "ssubscribe"})
BY_PATTERN = frozenset({"psubscribe"})
# What a command of these groups leaves behind is the connection's: the next one would find it.
CHANGES_CONNECTION = frozenset({"connection", "transactions", "pubsub", "server", "cluster"})
OF_DATA = frozenset(
    {"string", "list", "set", "sorted-set", "hash", "stream", "geo", "hyperloglog", "bitmap", "generic"}
)

Ask = Callable[..., Any]
"""Sends one command and returns its answer; raises the driver's errors."""


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is as rights name it, such as `config|get`; `template` is the shortest form that touches every key.

    `needs` is what that form asks of its keys: `r`, `w`, `rw`, or nothing for one that needs any right to the key.
    """

    name: str
    group: str
    flags: frozenset[str]
    categories: frozenset[str]
    template: tuple[Word, ...]
    needs: frozenset[str]

    @property
    def has_keys(self) -> bool:
        return Slot.KEY in self.template

    @property
    def has_channels(self) -> bool:
        return self.name in BY_CHANNEL | BY_PATTERN

    @property
    def reads(self) -> bool:
        return any("r" in need for need in self.needs)

    @property
    def writes(self) -> bool:
        return any("w" in need for need in self.needs)

    @property
    def number_of_keys(self) -> int:
        return self.template.count(Slot.KEY)

    @property
    def is_harmless(self) -> bool:
        """Whether it can do nothing but to the key that it names."""
        return self.has_keys and self.group in OF_DATA and not self.categories & {"@dangerous", "@admin", "@scripting"}

    def words(self, *keys: str, channel: str = "") -> list[str]:
        """Return the command with `keys` in their places, over and over, or with `channel`."""
        return fill(self.template, keys, channel)


def read(ask: Ask, function: str) -> tuple[Command, ...]:
    """Return the commands of the server that `ask` sends to, by name; it must let COMMAND be asked.

    `function` is the name of one that can be called.
    """
    documents = {name: _fields(entry) for name, entry in _pairs(ask("COMMAND DOCS"))}
    found = [
        command
        for entry in ask("COMMAND INFO")
        for command in _read(entry, documents.get(entry[0], {}), ask, {"function": function})
    ]
    return tuple(sorted(found, key=lambda command: command.name))


def _read(entry: Sequence[Any], document: dict[str, Any], ask: Ask, values: Mapping[str, str]) -> Iterable[Command]:
    name, arity, flags, categories = entry[0], entry[1], entry[2], entry[6]
    subcommands = entry[9] if len(entry) > 9 else ()
    documents = {sub: _fields(fields) for sub, fields in _pairs(document.get("subcommands", ()))}
    for sub in subcommands:
        own = documents.get(sub[0], {})
        yield from _read(sub, {"group": document.get("group", ""), **own}, ask, values)
    if subcommands and abs(arity) > 1:
        return  # a container does nothing itself
    template = words(name, [_fields(one) for one in document.get("arguments", ())], abs(arity), values)
    if Slot.KEY not in template and _first_key(entry):
        template = (*template[: entry[3]], Slot.KEY, *template[entry[3] + 1 :])
    yield Command(
        name, document.get("group", ""), frozenset(flags), frozenset(categories), template, _needs(template, ask)
    )


def _first_key(entry: Sequence[Any]) -> bool:
    """Return whether the command takes a key at a fixed place: a module may document no arguments."""
    specifications = [_fields(one) for one in entry[8]] if len(entry) > 8 else []
    return entry[3] > 0 and not any("not_key" in map(str.lower, one.get("flags", ())) for one in specifications)


def _needs(template: tuple[Word, ...], ask: Ask) -> frozenset[str]:
    """Return what the server says that the command does to its keys."""
    if Slot.KEY not in template:
        return frozenset()
    keys = ask("COMMAND GETKEYSANDFLAGS", *fill(template, ("key",), ""))
    does = [{str(flag).lower() for flag in flags} for _, flags in keys]
    return frozenset(("r" if READS in done else "") + ("w" if done & WRITES else "") for done in does)


def _fields(entry: Any) -> dict[str, Any]:
    return dict(_pairs(entry))


def _pairs(flat: Any) -> Iterable[tuple[Any, Any]]:
    return flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
