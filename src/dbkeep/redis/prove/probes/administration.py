"""P20 to P26: can a service run scripts, change the server, move or destroy its data, or spy on other clients?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbkeep.prove.probe import Finding, require
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.attempts import attempt
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK
from dbkeep.redis.prove.world import World

Lines = Sequence[str]
SOURCES = ("STIG V-251188", "Redis manual: ACL", "redis-baseline 31")
# Of each list the first do no harm where they are allowed; a live server is tried with those only.
SCRIPTS = (
    ("EVAL return(1) 0", "EVAL_RO return(1) 0", "SCRIPT EXISTS 0", "FUNCTION LIST", "FUNCTION STATS", "FUNCTION DUMP",
     f"FUNCTION DELETE {MARK}", f"EVALSHA {'0' * 40} 0", f"FCALL {MARK} 0", f"FCALL_RO {MARK} 0"),
    ("SCRIPT LOAD return(1)", "SCRIPT KILL", "SCRIPT FLUSH", "SCRIPT DEBUG YES", "FUNCTION LOAD x", "FUNCTION KILL",
     "FUNCTION FLUSH", "FUNCTION RESTORE x"),
)  # fmt: skip
SETTINGS = (
    ("CONFIG GET maxmemory", "MODULE LIST", "COMMAND COUNT", "MEMORY DOCTOR", "LATENCY DOCTOR", "LASTSAVE"),
    ("CONFIG SET maxmemory 0", "CONFIG SET dir /tmp", "CONFIG SET requirepass x", "CONFIG REWRITE", "CONFIG RESETSTAT",
     "MODULE LOAD /nonexistent", "MODULE LOADEX /nonexistent", "MODULE UNLOAD x", "DEBUG SLEEP 0", "DEBUG JMAP",
     "DEBUG OBJECT x", "DEBUG SEGFAULT", "LATENCY RESET", "SLOWLOG RESET", "MEMORY PURGE"),
)  # fmt: skip
REPLICATION = (
    ("ROLE", "CLUSTER INFO"),
    ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "SLAVEOF NO ONE", "PSYNC ? -1", "SYNC", "REPLCONF listening-port 1",
     "FAILOVER", "CLUSTER RESET", f"MIGRATE 127.0.0.1 1 {MARK} 0 1", f"RESTORE {MARK} 0 x", f"DUMP {MARK}",
     f"MOVE {MARK} 1"),
)  # fmt: skip
DESTRUCTION = (
    ("SELECT 1",),
    ("SWAPDB 0 0", "FLUSHDB", "FLUSHALL", "SAVE", "BGSAVE", "BGREWRITEAOF", "SHUTDOWN NOSAVE"),
)  # fmt: skip
RIGHTS = (
    ("ACL WHOAMI", "ACL LIST", "ACL USERS", "ACL CAT", "ACL GETUSER admin", "ACL LOG 1", "ACL GENPASS",
     "ACL DRYRUN admin PING"),
    ("ACL SETUSER dbkeep_probe on nopass ~* +@all", "ACL DELUSER dbkeep_probe", "ACL LOG RESET", "ACL LOAD",
     "ACL SAVE"),
)  # fmt: skip
CLIENTS = (
    ("CLIENT LIST", "CLIENT INFO", "CLIENT ID", "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT UNBLOCK 0",
     "CLIENT KILL ID 0"),
    ("MONITOR", "CLIENT PAUSE 1", "CLIENT UNPAUSE", "CLIENT NO-EVICT ON", "CLIENT NO-TOUCH ON", "CLIENT REPLY ON",
     "CLIENT TRACKING ON", "CLIENT KILL TYPE normal SKIPME yes"),
)  # fmt: skip
WAITING = (
    ("WAIT 0 1", "WAITAOF 0 0 1", f"BLPOP {MARK} 0.01"),
    (f"BZPOPMIN {MARK} 0.01", f"BLMOVE {MARK} {MARK} LEFT LEFT 0.01", f"XREAD BLOCK 1 STREAMS {MARK} $"),
)  # fmt: skip


@probe(
    "P20",
    "No user runs a script, or changes the functions",
    area="administration",
    sources=(*SOURCES, "CVE-2025-49844"),
)
def scripts(world: World) -> Iterator[Finding]:
    yield from _tried(world, SCRIPTS)


@probe("P21", "No user reads or changes settings, loads modules or debugs", area="administration", sources=SOURCES)
def settings(world: World) -> Iterator[Finding]:
    yield from _tried(world, SETTINGS)


@probe("P22", "No user makes a replica, becomes one, or moves data by dumps", area="administration",
       sources=(*SOURCES, "CVE-2026-25243"))  # fmt: skip
def replication(world: World) -> Iterator[Finding]:
    yield from _tried(world, REPLICATION)


@probe("P23", "No user empties, saves, swaps or stops the server", area="administration", sources=SOURCES)
def destruction(world: World) -> Iterator[Finding]:
    yield from _tried(world, DESTRUCTION)


@probe("P24", "No user reads or changes rights", area="administration", sources=SOURCES)
def rights(world: World) -> Iterator[Finding]:
    yield from _tried(world, RIGHTS)


@probe("P25", "No user sees, ends or stops other clients", area="administration", sources=SOURCES)
def clients(world: World) -> Iterator[Finding]:
    yield from _tried(world, CLIENTS)


@probe("P26", "No user makes the server wait for it", area="administration", sources=(*SOURCES, "Redis manual: WAIT"))
def waiting(world: World) -> Iterator[Finding]:
    yield from _tried(world, WAITING)


def _tried(world: World, lines: tuple[Lines, Lines]) -> Iterator[Finding]:
    """Try every line that the server knows as every user that is not declared to."""
    tries = 0
    for instance in world.instances:
        known = {command.name for command in world.commands(instance)}
        for user in world.users(instance):
            for line in (*lines[0], *lines[1]) if world.is_copy else lines[0]:
                name = _name(line, known)
                if name is None or _is_declared(world, user, instance, name):
                    continue
                tries += 1
                tried = world.attempt(instance, user, *line.split())
                if not tried.denied:
                    yield Finding(user, f"{instance} {line}", str(tried))
                    world.session(instance, user).connection_pool.disconnect()
        for user in world.users(instance):
            require(world.attempt(instance, user, "PING").answered, f"{instance} does not answer {user} any more")
    require(tries, "the server knows none of these commands")


def _name(line: str, known: set[str]) -> str | None:
    """Return the command as rights name it, or None when the server does not know it."""
    first, *others = line.lower().split()
    return next((name for name in ("|".join([first, *others[:1]]), first) if name in known), None)


def _is_declared(world: World, user: str, instance: str, name: str) -> bool:
    """A function that nobody declared may be called by nobody, whoever may call others."""
    if name in reach.FIRST_ARGUMENT:
        return reach.lists(world.declared, user, instance, name) and not _names_function(world, user, instance, name)
    return reach.lists(world.declared, user, instance, name)


def _names_function(world: World, user: str, instance: str, name: str) -> bool:
    """Return whether the user is declared to call some functions only."""
    commands = [entry for grant in reach.grants_of(world.declared, user, instance) for entry in grant.commands]
    return name not in commands


# What not even the administrator may do while the server runs: its settings say so, and only a start reads them.
IMMUTABLE = (
    "CONFIG SET dir /tmp", "CONFIG SET dbfilename x", "CONFIG SET enable-debug-command yes",
    "CONFIG SET enable-module-command yes", "CONFIG SET enable-protected-configs yes", "CONFIG SET aclfile x",
    "CONFIG SET unixsocket x", "DEBUG SLEEP 0", "DEBUG JMAP", "MODULE LOAD /nonexistent", "MODULE UNLOAD x",
)  # fmt: skip
REFUSALS = ("immutable", "protected", "not allowed", "out of range")


@probe("P27", "Not even the administrator unlocks what only a start may change", area="administration", live=False,
       sources=("Redis manual: Security", "redis.conf: enable-protected-configs"))  # fmt: skip
def immutable(world: World) -> Iterator[Finding]:
    databases = int(str(world.declared.instances.settings.get("databases", 16)))
    for instance in world.instances:
        require(attempt(world.admin(instance), "PING").answered, "the administrator gets no answer")
        for line in (*IMMUTABLE, f"SELECT {databases}"):
            tried = attempt(world.admin(instance), *line.split())
            if not any(tried.holds(word) for word in REFUSALS):
                yield Finding("admin", f"{instance} {line}", str(tried))
        attempt(world.admin(instance), "SELECT", "0")
