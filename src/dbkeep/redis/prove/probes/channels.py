"""P32 to P34: does a channel carry words only between those who are declared to, and no keyspace events?"""

from __future__ import annotations

from collections.abc import Iterator

import redis

from dbkeep.prove.probe import Finding, require
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.attempts import attempt
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK, UNDECLARED
from dbkeep.redis.prove.world import World
from dbkeep.secrets import new_password

SOURCES = ("Redis manual: ACL, Pub/Sub channels", "Redis manual: Pub/Sub")
SPY_ON = ("*", "__key*__:*", "__keyspace@0__:*", "__keyevent@0__:*", "__keyevent@0__:expired", "__redis__:invalidate")
SECONDS = 0.2
NEW = "dbkeep_new"


@probe("P32", "No user listens to or speaks on a channel of others", area="channels", sources=SOURCES)
def foreign(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        prefixes = [channel.prefix for channel in world.declared.keyspaces.channels if channel.instance == instance]
        for user in world.users(instance):
            held = [p for grant in reach.grants_of(world.declared, user, instance) for p in grant.channels]
            channels = [f"{prefix}{MARK}" for prefix in (*prefixes, UNDECLARED)]
            others = [channel for channel in channels if not reach.matches(channel, held)]
            lines = [[word, channel] for channel in others for word in ("SUBSCRIBE", "SSUBSCRIBE", "PSUBSCRIBE")]
            lines += [["PSUBSCRIBE", pattern] for pattern in (*SPY_ON, *(f"{prefix}*" for prefix in prefixes))]
            lines += [["SUBSCRIBE", channel] for channel in SPY_ON]
            lines += [[word, channel, world.seed.word] for channel in others for word in ("PUBLISH", "SPUBLISH")]
            for words in lines:
                tried = world.attempt(instance, user, *words)
                if not (tried.denied or words[1] in held):
                    yield Finding(user, f"{instance} {words[0]} {words[1]}", str(tried))
                    world.session(instance, user).connection_pool.disconnect()


@probe("P33", "What is said on a channel is heard by who is declared to listen, and by nobody else", area="channels",
       sources=SOURCES, live=False)  # fmt: skip
def heard(world: World) -> Iterator[Finding]:
    """Each user speaks where it may; every user tries to listen. Services would take such a word for one of theirs."""
    said = 0
    for instance in world.instances:
        for speaker in world.users(instance):
            for pattern in _patterns(world, instance, speaker, "publish"):
                channel = pattern.replace("*", MARK)
                said += 1
                for listener in world.users(instance):
                    may = reach.matches(channel, _patterns(world, instance, listener, "subscribe"))
                    if _hears(world, instance, listener, speaker, channel) != may:
                        words = f"{'does not hear' if may else 'hears'} {speaker}"
                        yield Finding(listener, f"{instance} {channel}", words)
    require(said, "nobody is declared to speak on a channel")


def _patterns(world: World, instance: str, user: str, command: str) -> list[str]:
    """Return the channels on which `user` may run `command`."""
    grants = reach.grants_of(world.declared, user, instance)
    return [pattern for grant in grants if command in grant.commands for pattern in grant.channels]


def _hears(world: World, instance: str, listener: str, speaker: str, channel: str) -> bool:
    with world.connect(instance, listener) as client, client.pubsub() as ear:
        try:
            ear.subscribe(channel)
            ear.get_message(timeout=SECONDS)
            attempt(world.session(instance, speaker), "PUBLISH", channel, world.seed.word)
            message = ear.get_message(timeout=SECONDS)
        except redis.RedisError:
            return False
    return bool(message and message["data"] == world.seed.word)


@probe("P34", "The server tells nobody what happens to keys", area="channels", sources=SOURCES, live=False)
def events(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        admin = world.admin(instance)
        with admin.pubsub() as ear:  # type: ignore[no-untyped-call]
            ear.psubscribe("__key*__:*")
            require(ear.get_message(timeout=5), "the administrator cannot listen")
            world.victims(instance)
            if ear.get_message(timeout=SECONDS):
                yield Finding("admin", f"{instance} __key*__:*", "changes of keys are told to who listens")


@probe("P35", "A new user may do nothing before it is told what", area="channels", live=False,
       sources=("redis.conf: acl-pubsub-default", *SOURCES))  # fmt: skip
def new_user(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        password = new_password()
        rules = ("reset", "on", f">{password}", "+publish", "+get", "+ping")
        require(attempt(world.admin(instance), "ACL", "SETUSER", NEW, *rules).answered, "no user can be made")
        with world.connect(instance, None) as client:
            require(attempt(client, "AUTH", NEW, password).answered, "a new user is not let in")
            for words in (("PUBLISH", MARK, "x"), ("GET", MARK)):
                if not attempt(client, *words).denied:
                    yield Finding("(a new user)", f"{instance} {words[0]}", "is allowed by the command alone")
        attempt(world.admin(instance), "ACL", "DELUSER", NEW)
