"""Mutants of what a user may do: keys, commands, channels and selectors, too many and too few."""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.redis.declared import Grant
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.commands import NO_AUTH, Command
from dbkeep.redis.prove.mutants.mutant import Mutant
from dbkeep.redis.prove.seed import keyspaces
from dbkeep.redis.prove.world import World

# What opens the server or other keys, by one command each.
DANGEROUS = (
    "acl|setuser", "client|kill", "client|list", "config|get", "config|set", "copy", "dbsize", "debug", "eval",
    "flushall", "function|load", "keys", "module|load", "monitor", "object|encoding", "psync", "randomkey", "rename",
    "replicaof", "restore", "scan", "shutdown", "sort", "wait",
)  # fmt: skip
# Settings refuse them to everybody.
CLOSED = ("debug", "module")
NO_USE = "command of no use"
"""Kind of the mutants that give a user what it cannot use without something else."""
CATEGORIES = (
    "all", "admin", "dangerous", "keyspace", "read", "write", "scripting", "pubsub", "blocking", "stream", "list",
)  # fmt: skip


def patterns(world: World) -> Iterator[Mutant]:
    """Yield each user with every key, with each prefix of others, and with each of its own patterns widened."""
    for instance in world.instances:
        prefixes = [keyspace.prefix for keyspace in keyspaces(world.declared, instance)]
        for user in world.users(instance):
            if not _works_on_keys(world, user, instance):
                continue
            yield _set(instance, user, "pattern widened", "~*")
            held = _patterns(world, user, instance)
            for prefix in prefixes:
                if f"{prefix}*" not in held:
                    yield _set(instance, user, "pattern added", f"~{prefix}*")
                    yield _set(instance, user, "pattern added", f"%R~{prefix}*")
            for pattern in held:
                wide = _wider(pattern)
                if not reach.matches(wide.replace("*", "probe"), held):
                    yield _set(instance, user, "pattern widened", f"~{wide}")
            for grant in reach.grants_of(world.declared, user, instance):
                for pattern in grant.read:
                    yield _set(instance, user, "reading becomes writing", f"~{pattern}")


def _wider(pattern: str) -> str:
    """Return the pattern one part shorter: rl:auth:* becomes rl:*, and sess:* becomes s*."""
    parts = pattern.removesuffix("*").rstrip(":").split(":")
    return ":".join(parts[:-1]) + ":*" if len(parts) > 1 else parts[0][:1] + "*"


def _works_on_keys(world: World, user: str, instance: str) -> bool:
    """A pattern gives nothing to who has no command for keys: such a mutant is caught as a right, by C01 alone."""
    keyed = [command for command in world.commands(instance) if command.has_keys]
    return any(reach.lists(world.declared, user, instance, command.name) for command in keyed)


def _patterns(world: World, user: str, instance: str) -> list[str]:
    grants = reach.grants_of(world.declared, user, instance)
    return [pattern for grant in grants for pattern in (*grant.read, *grant.write, *grant.readwrite)]


def commands(world: World) -> Iterator[Mutant]:
    """Yield each user with each dangerous command that it is not declared to run and the server knows."""
    for instance in world.instances:
        known = {command.name: command for command in world.commands(instance)}
        for user in world.users(instance):
            for name in DANGEROUS:
                if name in known and not reach.lists(world.declared, user, instance, name):
                    idle = known[name].has_keys and not _patterns(world, user, instance)
                    closed = name.partition("|")[0] in CLOSED
                    yield _set(instance, user, NO_USE if idle or closed else "command added", f"+{name}")


def categories(world: World) -> Iterator[Mutant]:
    """Yield each user with each category that holds a command it may not run."""
    for instance in world.instances:
        for user in world.users(instance):
            for name in CATEGORIES:
                held = [c for c in world.commands(instance) if name == "all" or f"@{name}" in c.categories]
                idle = all(c.has_keys for c in held) and not _patterns(world, user, instance)
                if held:
                    yield _set(instance, user, NO_USE if idle else "category added", f"+@{name}")


def channels(world: World) -> Iterator[Mutant]:
    """Yield each user that speaks or listens with every channel, and with each prefix of others."""
    for instance in world.instances:
        prefixes = [channel.prefix for channel in world.declared.keyspaces.channels if channel.instance == instance]
        for user in world.users(instance):
            held = [pattern for grant in reach.grants_of(world.declared, user, instance) for pattern in grant.channels]
            if held:
                yield _set(instance, user, "channel added", "allchannels")
                for prefix in prefixes:
                    if f"{prefix}*" not in held:
                        yield _set(instance, user, "channel added", f"&{prefix}*")


def selectors(world: World) -> Iterator[Mutant]:
    """Yield each user with a second set of rights: to read every key, or to write one prefix of others."""
    for instance in world.instances:
        prefixes = [keyspace.prefix for keyspace in keyspaces(world.declared, instance)]
        for user in world.users(instance):
            yield _set(instance, user, "selector added", "(~* +get)")
            yield _set(instance, user, "selector added", "(+randomkey)")
            for prefix in prefixes:
                if f"{prefix}*" not in _writable(world, user, instance):
                    yield _set(instance, user, "selector added", f"(~{prefix}* +append)")


def _writable(world: World, user: str, instance: str) -> list[str]:
    return [pattern for grant in reach.grants_of(world.declared, user, instance) for pattern in grant.readwrite]


def taken(world: World) -> Iterator[Mutant]:
    """Yield each user without its keys, without its channels, without each of three commands, and switched off."""
    for instance in world.instances:
        plain = {c.name: c for c in world.commands(instance) if NO_AUTH not in c.flags}
        for user in world.users(instance):
            grant, *others = reach.grants_of(world.declared, user, instance)
            if (grant.read or grant.readwrite) and not others:
                yield _set(instance, user, "rights taken", "resetkeys")
            if grant.channels:
                yield _set(instance, user, "rights taken", "resetchannels")
            mine = [name for name in grant.commands if name in plain and not _again(others, plain[name])]
            for name in mine[:: max(1, len(mine) // 3)]:
                yield _set(instance, user, "rights taken", f"-{name}")
            yield _set(instance, user, "user off", "off")


def _again(others: list[Grant], command: Command) -> bool:
    return any(command.name in grant.commands for grant in others) and not command.has_keys


def _set(instance: str, user: str, kind: str, rule: str) -> Mutant:
    return Mutant(
        f"{instance} {user} {rule}",
        kind,
        ((instance, "ACL", "SETUSER", user, rule),),
        about=frozenset({instance, user}),
    )
