"""Mutants of who gets in: users, their passwords, and the default user."""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.redis.prove.mutants.mutant import Mutant
from dbkeep.redis.prove.world import World

OTHER = "dbkeep_other"


def users(world: World) -> Iterator[Mutant]:
    """Yield each user removed, and users that nobody declared."""
    for instance in world.instances:
        for user in world.users(instance):
            yield _mutant(instance, user, "user removed", "ACL", "DELUSER", user)
        for user in world.strangers(instance):
            yield _mutant(instance, user, "user added", "ACL", "SETUSER", user, "on", f"={user}", "+ping")
        yield _mutant(instance, OTHER, "undeclared user", "ACL", "SETUSER", OTHER, "on", ">probe", "~*", "+@all")
        yield _mutant(instance, OTHER, "undeclared user", "ACL", "SETUSER", OTHER, "on", "nopass", "+ping")


def passwords(world: World) -> Iterator[Mutant]:
    """Yield each user that needs no password, has another's or one more, or whose dumps are taken unseen."""
    for instance in world.instances:
        names = world.users(instance)
        for user, other in zip(names, [*names[1:], names[0]], strict=True):
            yield _mutant(instance, user, "password", "ACL", "SETUSER", user, "nopass")
            yield _mutant(instance, user, "password", "ACL", "SETUSER", user, "resetpass")
            if other != user:
                yield _mutant(instance, user, "password", "ACL", "SETUSER", user, f"={other}")
            yield _mutant(instance, user, "another password added", "ACL", "SETUSER", user, ">probe")
            yield _mutant(instance, user, "payload check skipped", "ACL", "SETUSER", user, "skip-sanitize-payload")
        yield _mutant(instance, "admin", "payload check skipped", "ACL", "SETUSER", "admin", "skip-sanitize-payload")


def default(world: World) -> Iterator[Mutant]:
    """Yield the default user switched on: with everything and no password, with nothing, and with a known one."""
    for instance in world.instances:
        for rules in (
            ("on", "nopass", "~*", "&*", "+@all"),
            ("on", "nopass"),
            ("on", ">default", "+ping"),
            ("on", ">"),
        ):
            yield _mutant(instance, "default", "default user on", "ACL", "SETUSER", "default", *rules)


def _mutant(instance: str, user: str, kind: str, *words: str) -> Mutant:
    name = f"{instance} {' '.join(words[2:])}" if words[1] == "SETUSER" else f"{instance} {user} removed"
    return Mutant(name, kind, ((instance, *words),), about=frozenset({instance, user}))
