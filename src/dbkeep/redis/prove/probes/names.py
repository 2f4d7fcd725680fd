"""P16 and P17: what do the server's own lists, logs and figures tell of the keys and clients of others?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from dbkeep.prove.probe import Finding, require
from dbkeep.redis.declared import ADMIN
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.attempts import attempt, changed_settings
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.world import World

SOURCES = ("Redis manual: ACL", "redis-baseline 31", "own: RANDOMKEY named a key outside the caller's patterns")
ENUMERATE = ("RANDOMKEY", "KEYS *", "SCAN 0 COUNT 1000", "DBSIZE", "PUBSUB CHANNELS", "PUBSUB NUMPAT", "OBJECT HELP")
COUNTS = ("DBSIZE", "INFO keyspace", "MEMORY STATS")
AT_ONCE = "0"
# Ten milliseconds take a tenth of them, on the fastest processor.
ROUNDS = 20_000_000


@probe("P16", "No user enumerates keys or channels, or learns how many keys there are", area="names", sources=SOURCES)
def enumeration(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        world.victims(instance)
        for user in world.users(instance):
            for line in ENUMERATE:
                tried = world.attempt(instance, user, *line.split())
                if tried.holds(world.seed.word):
                    yield Finding(user, f"{instance} {line}", "names a key of another")
                elif not tried.denied and line not in COUNTS:
                    yield Finding(user, f"{instance} {line}", str(tried))
            for line in COUNTS:
                if world.attempt(instance, user, *line.split()).answered:
                    yield Finding(user, f"{instance} {line}", "tells how many keys there are", leak="number_of_keys")


@probe("P17", "Logs and lists of the server tell observers of no key and no password", area="names", sources=SOURCES,
       live=False)  # fmt: skip
def observers(world: World) -> Iterator[Finding]:
    """Each list is filled first as the services' own work would fill it."""
    for instance in world.instances:
        victims = world.victims(instance)
        with changed_settings(world.admin(instance), {"slowlog-log-slower-than": AT_ONCE}):
            for user in world.users(instance):
                for key in victims.values():
                    world.attempt(instance, user, "GET", key)
        for user in world.users(instance):
            yield from _lists(world, instance, user)


def _lists(world: World, instance: str, user: str) -> Iterator[Finding]:
    word, target = world.seed.word, f"{instance} "
    if world.attempt(instance, user, "SLOWLOG", "GET", "200").holds(word):
        yield Finding(user, target + "SLOWLOG GET", "shows the keys of slow commands", leak="slow_commands")
    if world.attempt(instance, user, "ACL", "LOG", "200").holds(word):
        yield Finding(user, target + "ACL LOG", "shows the keys that others were denied", leak="denied_keys")
    listed = world.attempt(instance, user, "CLIENT", "LIST")
    if listed.holds(word):
        yield Finding(user, target + "CLIENT LIST", "shows keys of others")
    if any(listed.holds(f"user={name} ") for name in world.users(instance) if name != user):
        yield Finding(user, target + "CLIENT LIST", "shows who is connected from where", leak="connections")
    yield from _secrets(world, instance, user)


def _secrets(world: World, instance: str, user: str) -> Iterator[Finding]:
    for line in (
        "CONFIG GET *",
        "ACL LIST",
        "INFO everything",
        "FUNCTION LIST WITHCODE",
        "MODULE LIST",
        f"ACL GETUSER {ADMIN}",
    ):
        tried = world.attempt(instance, user, *line.split())
        if any(tried.holds(password) for password in world.passwords.values()):
            yield Finding(user, f"{instance} {line}", "shows a password")
        if any(tried.holds(hashlib.sha256(word.encode()).hexdigest()) for word in world.passwords.values()):
            yield Finding(user, f"{instance} {line}", "shows digests of passwords", leak="password_digests")
    if reach.lists(world.declared, user, instance, "config|get"):
        for name in ("requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass"):
            tried = world.attempt(instance, user, "CONFIG", "GET", name)
            if tried.answered and tried.answer and tried.answer[-1]:
                yield Finding(user, f"{instance} CONFIG GET {name}", "shows a secret")


@probe("P18", "A slow command is recorded", area="names", sources=("Redis manual: SLOWLOG",), live=False)
def slow_commands(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        admin = world.admin(instance)
        busy = f"for i = 1, {ROUNDS} do end return '{world.seed.word}'"
        require(attempt(admin, "EVAL", busy, "0").answered, f"{instance} runs no script of its administrator")
        if not attempt(admin, "SLOWLOG", "GET", "200").holds(world.seed.word):
            yield Finding("(server)", f"{instance} SLOWLOG", f"does not know a script of {ROUNDS} rounds")
