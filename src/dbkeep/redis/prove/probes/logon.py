"""P01 to P04: does a user get in only with its own name and password?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep import redis as engine
from dbkeep.prove.probe import Finding, require
from dbkeep.redis.declared import ADMIN
from dbkeep.redis.prove.attempts import attempt, attempt_all
from dbkeep.redis.prove.commands import NO_AUTH
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.world import World
from dbkeep.secrets import new_password

SOURCES = ("Redis manual: ACL", "Redis manual: AUTH", "STIG V-251186", "STIG V-251187")
DEFAULT = "default"
NOBODY = "(not logged on)"
# A server of today closes a connection that is not logged on and has a kilobyte of answers to read (CVE-2025-21605).
AT_ONCE = 8


@probe("P01", "Nobody gets an answer without a logon, by any command", area="logon", sources=SOURCES)
def anonymous(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        client = world.connect(instance, None)
        commands = [
            command
            for command in world.commands(instance)
            if NO_AUTH not in command.flags and (world.is_copy or (command.is_harmless and not command.writes))
        ]
        for first in range(0, len(commands), AT_ONCE):
            some = commands[first : first + AT_ONCE]
            answers = attempt_all(client, [c.words(world.seed.word, channel=world.seed.word) for c in some])
            for command, tried in zip(some, answers, strict=True):
                if not (tried.locked_out or tried.denied):
                    yield Finding(NOBODY, f"{instance} {command.name}", str(tried))
        require(commands, f"{instance} knows no command")


@probe("P02", "The default user is off, whatever password is said", area="logon", sources=SOURCES)
def default_user(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        client = world.connect(instance, None)
        for words in [[DEFAULT, ""], [DEFAULT, DEFAULT], *([password] for password in _passwords(world)), [""]]:
            tried = attempt(client, "AUTH", *words)
            if tried.answered:
                yield Finding(DEFAULT, f"{instance} AUTH", f"is let in with {len(words)} words")
                client.connection_pool.disconnect()
            require(tried.answered or tried.locked_out or "AUTH" in str(tried.error), f"{instance} AUTH: {tried}")


def _passwords(world: World) -> list[str]:
    return [password for user, password in world.passwords.items() if user != ADMIN]


@probe("P03", "Every user has a password of its own, and no other lets it in", area="logon", sources=SOURCES)
def passwords(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        client = world.connect(instance, None)
        for user in world.users(instance):
            right = attempt(client, "AUTH", user, world.passwords[user])
            if not right.answered:
                yield Finding(user, f"{instance} AUTH", f"is refused with its own password: {right}")
            others = {f"the password of {name}": word for name, word in world.passwords.items() if name != user}
            for what, word in {"no password": "", "a wrong password": world.seed.word, **others}.items():
                if attempt(client, "AUTH", user, word).answered:
                    yield Finding(user, f"{instance} AUTH", f"is let in with {what}")
        for user in world.strangers(instance):
            if attempt(client, "AUTH", user, world.passwords[user]).answered:
                yield Finding(user, f"{instance} AUTH", "is let in where it is not declared")


@probe("P04", "A changed password is the only one that is let in", area="logon", sources=SOURCES, live=False, slow=True)
def old_passwords(world: World) -> Iterator[Finding]:
    with world.throw_away.renewed() as other:
        changed = {user: word if user == ADMIN else new_password() for user, word in other.passwords.items()}
        engine.apply(other.throw_away.settings, other.declared, changed)
        for instance in other.instances:
            client = other.connect(instance, None)
            for user in other.users(instance):
                require(attempt(client, "AUTH", user, changed[user]).answered, f"{user} is refused its new password")
                if attempt(client, "AUTH", user, other.passwords[user]).answered:
                    yield Finding(user, f"{instance} AUTH", "is let in with the password that it had before")


@probe("P08", "The administrator is not let in over the network", area="logon", sources=SOURCES)
def administrator(world: World) -> Iterator[Finding]:
    """Redis cannot bind a user to the local socket, so whoever has the password can come from anywhere."""
    for instance in world.instances:
        known = set(world.passwords.values())
        if world.is_copy:
            file = world.throw_away.settings.instances[instance].password_file
            known |= {file.read_text(encoding="utf-8").strip()} if file else set()
        client = world.connect(instance, None)
        if any(attempt(client, "AUTH", ADMIN, word).answered for word in sorted(known)):
            yield Finding(ADMIN, f"{instance} AUTH", "is let in over the network", leak="administrator_by_network")
