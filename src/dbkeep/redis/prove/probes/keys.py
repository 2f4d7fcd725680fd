"""P11 to P15: do the keys of one service stay hidden from and unchanged by the others?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.prove.probe import Finding, Note, require
from dbkeep.redis.declared import Grant
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.attempts import attempt, attempt_all
from dbkeep.redis.prove.commands import Command
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK, SECONDS, UNDECLARED
from dbkeep.redis.prove.world import World
from dbkeep.secrets import new_password

SOURCES = ("Redis manual: ACL, Key permissions", "redis/keyspaces.yml: owner", "CVE-2023-41053")
LENT = "dbkeep_lent"
# A value by a detour: a pattern that names another key, a script that does not say its keys, options that copy.
TRAPS = (
    ("SORT", "{own}", "BY", "nosort", "GET", "{victim}"),
    ("SORT", "{own}", "BY", "{victim}", "GET", "#"),
    ("SORT_RO", "{own}", "BY", "nosort", "GET", "{victim}"),
    ("SORT", "{victim}", "STORE", "{own}"),
    ("EVAL", "return redis.call('GET', ARGV[1])", "0", "{victim}"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "{victim}"),
    ("EVAL_RO", "return redis.pcall('GET', ARGV[1])", "1", "{own}", "{victim}"),
    ("GEORADIUS", "{own}", "0", "0", "1", "M", "STORE", "{victim}"),
    ("BITFIELD", "{victim}", "GET", "u8", "0"),
    ("SET", "{victim}", "x", "GET"),
    ("MIGRATE", "127.0.0.1", "1", "", "0", "1", "KEYS", "{victim}"),
    ("XREAD", "COUNT", "1", "STREAMS", "{own}", "{victim}", "0", "0"),
    ("OBJECT", "ENCODING", "{victim}"),
    ("MEMORY", "USAGE", "{victim}"),
    ("DEBUG", "OBJECT", "{victim}"),
)


@probe("P11", "No user reads a key of another, not even by a command of several keys", area="keys", sources=SOURCES)
def reading(world: World) -> Iterator[Finding]:
    tried = 0
    for instance in world.instances:
        for user in world.users(instance):
            own, foreign = _sides(world, instance, user, "r")
            for key in foreign:
                commands = list(_all(world, instance, key, own))
                answers = attempt_all(world.session(instance, user), commands)
                tried += len(answers)
                for words, answer in zip(commands, answers, strict=True):
                    if answer.answered and answer.holds(world.seed.word):
                        yield Finding(user, f"{instance} {words[0]}", f"reads {key}: {' '.join(words)}")
                yield from _copied(world, instance, user, own)
    require(tried, "there is no key of another")


@probe("P12", "No user changes a key of another", area="keys", sources=SOURCES, live=False)
def writing(world: World) -> Iterator[Finding]:
    tried = 0
    for instance in world.instances:
        for user in world.users(instance):
            own, foreign = _sides(world, instance, user, "w")
            for key in foreign:
                commands = list(_all(world, instance, key, own))
                answers = attempt_all(world.session(instance, user), commands)
                tried += len(answers)
                admin = world.admin(instance)
                value, left = attempt(admin, "GET", key), attempt(admin, "TTL", key)
                if value.answer != world.seed.word or not 0 < left.answer <= int(SECONDS):
                    done = [words[0] for words, one in zip(commands, answers, strict=True) if one.answered]
                    yield Finding(user, f"{instance} {key}", f"is changed by one of {', '.join(done)}")
                    world.victims(instance)
    require(tried, "there is no key of another")


@probe(
    "P13", "Key patterns hold alone: with every command lent, values of other keys stay hidden", area="keys",
    sources=SOURCES, live=False,
)  # fmt: skip
def lent_commands(world: World) -> Iterator[Finding | Note]:
    number = 0
    for instance in world.instances:
        password, victims = new_password(), world.victims(instance)
        for user in world.users(instance):
            _, foreign = _sides(world, instance, user, "r")
            patterns = [
                pattern for grant in reach.grants_of(world.declared, user, instance) for pattern in _rules(grant)
            ]
            rules = ("reset", "on", f">{password}", *patterns, "+@all", "-@admin", "-@dangerous", "+sort", "+migrate")
            require(attempt(world.admin(instance), "ACL", "SETUSER", LENT, *rules).answered, f"cannot lend to {user}")
            own = f"{MARK}:own" if not patterns else patterns[0].split("~", 1)[1].replace("*", f"{MARK}:own")
            with world.connect(instance, None) as client:
                require(attempt(client, "AUTH", LENT, password).answered, f"{LENT} is not let in")
                for key in foreign:
                    commands = [*_all(world, instance, key, own), *_traps(own, key)]
                    for words in commands:
                        answer = attempt(client, *words)
                        number += 1
                        if answer.answered and answer.holds(world.seed.word):
                            yield Finding(user, f"{instance} {words[0]}", f"with every command it reads {key}")
                        if answer.lost:
                            attempt(client, "AUTH", LENT, password)
            yield from _copied(world, instance, user, own)
            require(attempt(world.admin(instance), "GET", victims[UNDECLARED]).answered, "the server is gone")
        attempt(world.admin(instance), "ACL", "DELUSER", LENT)
    yield Note(f"{number} commands on other keys with every command lent")


@probe("P14", "A transaction, a watch or tracking reaches no other key", area="keys", sources=SOURCES)
def transactions(world: World) -> Iterator[Finding]:
    tried = 0
    for instance in world.instances:
        for user in world.users(instance):
            _, foreign = _sides(world, instance, user, "r")
            for key in foreign:
                tried += 1
                with world.connect(instance, user) as client:
                    if not attempt(client, "WATCH", key).denied:
                        yield Finding(user, f"{instance} WATCH", f"watches {key}")
                    attempt(client, "MULTI")
                    queued, done = attempt(client, "GET", key), attempt(client, "EXEC")
                    if not queued.denied or done.holds(world.seed.word):
                        yield Finding(user, f"{instance} MULTI", f"queues a GET of {key}: {queued}, then {done}")
                    tracked = attempt(client, "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", key)
                    if not tracked.denied:
                        yield Finding(user, f"{instance} CLIENT TRACKING", f"tracks {key}: {tracked}")
    require(tried, "there is no key of another")


@probe("P15", "No user can tell whether a key of another is there", area="keys", sources=SOURCES)
def existence(world: World) -> Iterator[Finding]:
    tried = 0
    for instance in world.instances:
        looks = [c for c in world.commands(instance) if c.has_keys and not c.writes and c.is_harmless]
        for user in world.users(instance):
            reading = [p for grant in reach.grants_of(world.declared, user, instance) for p in _rules(grant)]
            for key in world.victims(instance).values():
                if reach.matches(key, tuple(rule.split("~", 1)[1] for rule in reading)):
                    continue
                answers = attempt_all(world.session(instance, user), [command.words(key) for command in looks])
                tried += len(answers)
                told = [c.name for c, answer in zip(looks, answers, strict=True) if not answer.denied]
                if told:
                    yield Finding(user, f"{instance} {key}", f"is told of by {', '.join(told)}")
    require(tried, "there is no key of another")


def _rules(grant: Grant) -> list[str]:
    return [
        *(f"%R~{pattern}" for pattern in grant.read),
        *(f"%W~{pattern}" for pattern in grant.write),
        *(f"~{pattern}" for pattern in grant.readwrite),
    ]


def _sides(world: World, instance: str, user: str, need: str) -> tuple[str, list[str]]:
    """Return a key that `user` may write, and the planted keys for which it has not the right that is needed."""
    grants = reach.grants_of(world.declared, user, instance)
    written = [pattern for grant in grants for pattern in (*grant.readwrite, *grant.write)]
    right = "readwrite", {"r": "read", "w": "write"}[need]
    held = tuple(pattern for grant in grants for name in right for pattern in getattr(grant, name))
    own = written[0].replace("*", f"{MARK}:own") if written else f"{MARK}:none"
    return own, [key for key in world.victims(instance).values() if not reach.matches(key, held)]


def _all(world: World, instance: str, victim: str, own: str) -> Iterator[list[str]]:
    """Yield every command on data with `victim` in every place for a key, and in each with `own` in the others.

    Those that write come last, because they may take away what there is to read.
    """
    for command in sorted(world.commands(instance), key=lambda command: command.writes):
        if command.is_harmless and "blocking" not in command.flags and (world.is_copy or not command.writes):
            yield from _in_each_place(command, victim, own)


def _in_each_place(command: Command, victim: str, own: str) -> Iterator[list[str]]:
    yield command.words(victim)
    for place in range(command.number_of_keys if command.number_of_keys > 1 else 0):
        yield command.words(*(victim if number == place else own for number in range(command.number_of_keys)))


def _traps(own: str, victim: str) -> Iterator[list[str]]:
    for trap in TRAPS:
        yield [word.format(own=own, victim=victim) for word in trap]


def _copied(world: World, instance: str, user: str, own: str) -> Iterator[Finding]:
    """Look into the user's own key for what a command put there."""
    if world.is_copy:
        held = attempt(world.admin(instance), "DUMP", own)
        if held.holds(world.seed.word):
            yield Finding(user, f"{instance} {own}", "holds a copy of a key of another")
        attempt(world.admin(instance), "DEL", own)
