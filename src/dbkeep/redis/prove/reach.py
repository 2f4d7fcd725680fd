"""What a user is declared to reach: the rules of redis/acl.yml, applied to one command on one kind of key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dbkeep.redis.declared import ADMIN, Declared, Grant, LaterCommand
from dbkeep.redis.prove.commands import BY_PATTERN, NO_AUTH, Command
from dbkeep.redis.prove.seed import MARK, UNDECLARED, keyspaces

EVERYTHING = "@all"
FIRST_ARGUMENT = frozenset({"fcall", "fcall_ro"})
_REGISTERED = re.compile(r"""register_function\s*[({]\s*(?:function_name\s*=\s*)?['"](\w+)['"]""")


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of key or channel of an instance, or no key at all. `name` is what is shown; `word` stands for it."""

    name: str
    word: str = ""
    channel: bool = False

    def fits(self, command: Command) -> bool:
        """Return whether `command` is about such a target."""
        if self.channel:
            return command.has_channels
        return command.has_keys if self.word else not (command.has_keys or command.has_channels)


def targets(declared: Declared, instance: str) -> Iterator[Target]:
    """Yield the server itself, every declared kind of key and channel of `instance`, and one of each undeclared.

    A pattern of a user that is narrower than a prefix is a kind of its own.
    """
    yield Target("(no key)")
    grants = [grant for user in declared.acl.users if user != ADMIN for grant in grants_of(declared, user, instance)]
    keys = [f"{keyspace.prefix}*" for keyspace in keyspaces(declared, instance)]
    keys += [pattern for grant in grants for pattern in (*grant.read, *grant.write, *grant.readwrite)]
    for pattern in dict.fromkeys(keys):
        yield Target(pattern, pattern.replace("*", MARK))
    for keyspace in keyspaces(declared, instance):
        # Whoever forgets the colon, or shortens a pattern, opens these.
        near = keyspace.prefix.rstrip(":")
        yield Target(f"{near} without :", f"{near}{MARK}")
    yield Target("other keys", UNDECLARED + MARK)
    channels = [f"{channel.prefix}*" for channel in declared.keyspaces.channels if channel.instance == instance]
    channels += [pattern for grant in grants for pattern in grant.channels]
    for pattern in dict.fromkeys(channels):
        yield Target(f"channel {pattern}", pattern, channel=True)
    yield Target("other channels", f"{UNDECLARED}*", channel=True)


def grants_of(declared: Declared, user: str, instance: str) -> list[Grant]:
    """Return what `user` may do on `instance`, each grant for itself; empty if the user does not exist there."""
    return [grant for grant in declared.acl.users[user].grants if instance in grant.instances]


def functions(declared: Declared) -> list[str]:
    """Return the functions of all declared libraries."""
    return [name for library in declared.libraries for name in _REGISTERED.findall(library.code)]


def lists(declared: Declared, user: str, instance: str, name: str) -> bool:
    """Return whether `user` is declared to run the command `name`, such as `config|get`, on some key at least."""
    return any(_lists(declared, grant, name) for grant in grants_of(declared, user, instance))


def _lists(declared: Declared, grant: Grant, name: str) -> bool:
    connection = [c.command if isinstance(c, LaterCommand) else c for c in declared.acl.connection]
    # What follows the bar is a subcommand, or else the only first argument that is allowed: a trial of FCALL has it.
    named = {entry.partition("|")[0] for entry in grant.commands if entry.partition("|")[0] in FIRST_ARGUMENT}
    return not {name, name.partition("|")[0], EVERYTHING}.isdisjoint((*grant.commands, *connection, *named))


def allows(declared: Declared, user: str, instance: str, command: Command, target: Target) -> bool:
    """Return whether `user` is declared to run `command` on `target`, every one of its keys being of that kind."""
    return any(_allows(declared, grant, command, target) for grant in grants_of(declared, user, instance))


def _allows(declared: Declared, grant: Grant, command: Command, target: Target) -> bool:
    if NO_AUTH not in command.flags and not _lists(declared, grant, command.name):
        return False
    if command.has_channels:
        if command.name in BY_PATTERN:
            return target.word in grant.channels or "*" in grant.channels
        return matches(target.word, grant.channels)
    # One pattern must give all that is needed of a key (manual: ACL, "Key permissions").
    patterns = {
        "": (*grant.read, *grant.write, *grant.readwrite),
        "r": (*grant.read, *grant.readwrite),
        "w": (*grant.write, *grant.readwrite),
        "rw": grant.readwrite,
    }
    return all(matches(target.word, patterns[need]) for need in command.needs)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns, each as Redis spells them, fits `name`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
