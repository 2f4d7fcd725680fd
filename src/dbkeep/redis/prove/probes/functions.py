"""P30 and P31: do the declared functions do what they are for, and is there no other?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.prove.probe import Finding, require
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.attempts import Attempt, attempt
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK
from dbkeep.redis.prove.world import World

SOURCES = ("redis/functions/", "Redis manual: Functions", "ITU-T I.371")
LIMITER, BURST, PERIOD = "rate_limit", 3, 60


@probe(
    "P30",
    "The rate limiter lets a burst through and no more, on its callers' own keys",
    area="functions",
    sources=SOURCES,
)
def limiter(world: World) -> Iterator[Finding]:
    callers = 0
    for instance, name in _holders(world):
        for user in world.users(instance):
            if not reach.lists(world.declared, user, instance, "fcall"):
                continue
            for pattern in _limited(world, user, instance):
                callers += 1
                yield from _burst(world, instance, user, pattern.replace("*", f"{MARK}:{name}:{world.seed.word}"))
            for key in world.victims(instance).values():
                tried = _call(world, instance, user, key)
                if not tried.denied and not _may_write(world, user, instance, key):
                    yield Finding(user, f"{instance} FCALL {LIMITER}", f"is let at {key}: {tried}")
    require(callers, f"nobody is declared to call {LIMITER}")


def _holders(world: World) -> Iterator[tuple[str, str]]:
    """Yield the instances that hold the limiter's library, with that library."""
    for library in world.declared.libraries:
        for instance, declared in world.declared.instances.instances.items():
            if library.name in declared.functions and LIMITER in reach.functions(world.declared):
                yield instance, library.name


def _limited(world: World, user: str, instance: str) -> list[str]:
    """Return the user's own patterns of limits: those on whose keys it may write and the owner limits."""
    grants = reach.grants_of(world.declared, user, instance)
    return [pattern for grant in grants for pattern in grant.readwrite if pattern.startswith("rl:")]


def _may_write(world: World, user: str, instance: str, key: str) -> bool:
    grants = reach.grants_of(world.declared, user, instance)
    return reach.matches(key, [pattern for grant in grants for pattern in grant.readwrite])


def _call(world: World, instance: str, user: str, key: str) -> Attempt:
    return world.attempt(instance, user, "FCALL", LIMITER, "1", key, str(BURST), str(BURST), str(PERIOD))


def _burst(world: World, instance: str, user: str, key: str) -> Iterator[Finding]:
    answers = [_call(world, instance, user, key) for _ in range(BURST + 2)]
    if not all(tried.answered for tried in answers):
        yield Finding(user, f"{instance} FCALL {LIMITER}", f"does not work: {answers[0]}")
        return
    allowed = [tried.answer == 0 for tried in answers]
    if allowed != [True] * BURST + [False, False]:
        yield Finding(user, f"{instance} FCALL {LIMITER}", f"lets {sum(allowed)} calls through, {BURST} were right")
    if world.is_copy:
        left = attempt(world.admin(instance), "TTL", key).answer
        if not 0 < left <= PERIOD:
            yield Finding(user, f"{instance} {key}", f"lives for {left} s, at most {PERIOD} were right")


@probe("P31", "No function can be called that nobody declared", area="functions", sources=SOURCES)
def undeclared(world: World) -> Iterator[Finding]:
    declared = set(reach.functions(world.declared))
    for instance in world.instances:
        wanted = world.declared.instances.instances[instance].functions
        listed = world.auditor(instance).execute_command("FUNCTION LIST")  # type: ignore[no-untyped-call]
        libraries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in listed]
        require({library["library_name"] for library in libraries} or not wanted, f"{instance} has no function at all")
        for library in libraries:
            for function in library["functions"]:
                name = dict(zip(function[::2], function[1::2], strict=True))["name"]
                if name not in declared or library["library_name"] not in wanted:
                    yield from _called(world, instance, name)


def _called(world: World, instance: str, name: str) -> Iterator[Finding]:
    for user in world.users(instance):
        if world.is_copy and not world.attempt(instance, user, "FCALL", name, "0").denied:
            yield Finding(user, f"{instance} FCALL {name}", "can be called")
    yield Finding("admin", f"{instance} {name}", "is a function that nobody declared")
