"""The live instances of an environment as a world: real users over TLS, and planted keys that are removed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from dbkeep.checks.access import Access
from dbkeep.environment import Environment
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.declared import Declared, Keyspace
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.reach import Target
from dbkeep.redis.prove.seed import SECONDS, Seed
from dbkeep.redis.prove.world import World

# By the type of a keyspace: how its owner plants a key that holds a word.
PLANT = {
    "string": ("SET", "{key}", "{word}", "EX", SECONDS),
    "hash": ("HSET", "{key}", "word", "{word}"),
    "set": ("SADD", "{key}", "{word}"),
    "zset": ("ZADD", "{key}", "1", "{word}"),
}


@contextmanager
def live(environment: Environment, declared: Declared) -> Iterator[World]:
    """Yield the environment's instances with a planted key below every prefix that its owner can write.

    Each is named after the probe, expires by itself, and is removed at the end.
    Raises UsageError when the environment has no Redis host, lacks a password, or its host cannot be reached, and
    DbkeepError when an instance does not answer.
    """
    hosts = environment.hosts("redis")
    if not hosts:
        raise UsageError(f"environment {environment.name} has no host in group redis")
    secrets = environment.secrets.get("redis", {})
    for user in declared.acl.users:
        if user not in secrets:
            raise UsageError(f"environment {environment.name} has no secret for {user}: run `dbkeep init`")
    with Access(environment) as access:

        def open_session(instance: str, user: str | None, **options: Any) -> redis.Redis:
            return access.redis(hosts[0], instance, user, **options)

        ports = {name: access.local_port(hosts[0], f"redis_{name}_port") for name in declared.instances.instances}
        passwords = {user: str(secrets[user]) for user in declared.acl.users}
        with World(
            declared,
            Seed(),
            open_session,
            ports=ports,
            authority=access.authority,
            passwords=passwords,
            secrets=secrets,
        ) as world:
            try:
                plant(world)
            except redis.RedisError as error:
                where = f"redis on {hosts[0].name}"
                raise DbkeepError(
                    f"{where}: {world.describe(error)}; see `dbkeep check -e {environment.name}`"
                ) from None
            try:
                yield world
            finally:
                remove(world)


def plant(world: World) -> None:
    """Plant a key below every prefix where some user may write one and let it expire."""
    for keyspace in world.declared.keyspaces.keyspaces:
        key = world.seed.key(keyspace.prefix)
        for user, kind in _planters(world, keyspace, key):
            words = [word.format(key=key, word=world.seed.word) for word in PLANT[kind]]
            if world.attempt(keyspace.instance, user, *words).answered:
                world.attempt(keyspace.instance, user, "EXPIRE", key, SECONDS)
                break


def _planters(world: World, keyspace: Keyspace, key: str) -> Iterator[tuple[str, str]]:
    """Yield the users that may plant `key`, each with the type of it."""
    commands = {command.name: command for command in world.commands(keyspace.instance)}
    target = Target(keyspace.prefix, key)
    for user in world.users(keyspace.instance):
        for kind in keyspace.types:
            needed = [PLANT[kind][0].lower(), *([] if kind == "string" else ["expire"])] if kind in PLANT else []
            allowed = [reach.allows(world.declared, user, keyspace.instance, commands[n], target) for n in needed]
            if needed and all(allowed):
                yield user, kind


def remove(world: World) -> None:
    """Remove what was planted and what a probe may have written into keys of its own; the rest expires."""
    for instance in world.instances:
        for user in world.users(instance):
            for key in world.written(instance, user):
                world.attempt(instance, user, "DEL", key)
