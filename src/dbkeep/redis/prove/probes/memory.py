"""P50 and P51: what happens when an instance is full: does the cache forget, and does state refuse and lose nothing?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from dbkeep.prove.probe import Finding, Note, require
from dbkeep.redis.declared import Loss
from dbkeep.redis.prove.attempts import Attempt, attempt, attempt_all
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK
from dbkeep.redis.prove.world import World

SOURCES = ("Redis manual: Key eviction", "redis/keyspaces.yml: loss", "RD-MEM-02", "RD-MEM-03")
TIMES, VALUE_BYTES, AT_ONCE = 3, 4096, 50
HOT, READS, SESSIONS, SECONDS = 50, 200, 300, "600"
MOST_OVER = 1.2
"""How far above its limit an instance may be for a moment, while it evicts."""
LEAST_HITS = 0.8
"""What is left of the hot set by the use of keys; by their age, or at random, it is next to nothing."""


@probe("P50", "While the cache is filled to three times its limit, it evicts and no session is lost", area="pressure",
       sources=SOURCES, live=False)  # fmt: skip
def full_cache(world: World) -> Iterator[Finding | Note]:
    with world.throw_away.renewed() as other:
        sessions = {}
        for prefix, instance in _prefixes(other, evicted=False):
            sessions[instance] = {f"{prefix}{MARK}:{number}": str(number) for number in range(SESSIONS)}
            _set_all(other.admin(instance), sessions[instance])
        for prefix, instance in _prefixes(other, evicted=True):
            yield from _fill_cache(other, instance, prefix)
        for instance, wanted in sessions.items():
            found = attempt(other.admin(instance), "MGET", *wanted).answer
            lost = sum(value != mine for value, mine in zip(found, wanted.values(), strict=True))
            if lost:
                yield Finding("(server)", instance, f"{lost} of {len(wanted)} sessions are lost")
            yield Note(f"{len(wanted) - lost} of {len(wanted)} keys of {instance} are there")


def _fill_cache(world: World, instance: str, prefix: str) -> Iterator[Finding | Note]:
    """Read the same hot keys often, then write new ones that nobody reads: what is used most must be there after it."""
    admin, limit = world.admin(instance), _limit(world, instance)
    hot = [f"{prefix}{MARK}:hot:{number}" for number in range(HOT)]
    value, refused, most = "x" * VALUE_BYTES, 0, 0
    _set_all(admin, dict.fromkeys(hot, value))
    for _ in range(READS):
        attempt(admin, "MGET", *hot)
    for first in range(0, TIMES * limit // VALUE_BYTES, AT_ONCE):
        cold = {f"{prefix}{MARK}:{number}": value for number in range(first, first + AT_ONCE)}
        refused += sum(not tried.answered for tried in _set_all(admin, cold))
        most = max(most, _figure(admin, "memory", "used_memory"))
    evicted = _figure(admin, "stats", "evicted_keys")
    if refused:
        yield Finding("(server)", instance, f"refuses {refused} writes when it is full")
    if not evicted or most > MOST_OVER * limit:
        yield Finding("(server)", instance, f"takes {most} bytes of {limit}, and evicts {evicted} keys")
    hits = sum(found is not None for found in attempt(admin, "MGET", *hot).answer) / HOT
    if hits < LEAST_HITS and "lfu" in world.throw_away.directives(instance)["maxmemory-policy"]:
        yield Finding("(server)", instance, f"keeps {hits:.0%} of what is used most")
    yield Note(f"{instance}: {TIMES} times its limit written, {evicted} keys evicted, hot set hit in {hits:.1%}")


@probe("P51", "A full state instance refuses writes, keeps what it has, and works again when there is room",
       area="pressure", sources=SOURCES, live=False)  # fmt: skip
def full_state(world: World) -> Iterator[Finding | Note]:
    with world.throw_away.renewed() as other:
        for prefix, instance in _prefixes(other, evicted=False):
            yield from _fill_state(other, instance, prefix)


def _fill_state(world: World, instance: str, prefix: str) -> Iterator[Finding | Note]:
    admin, limit = world.admin(instance), _limit(world, instance)
    value = "x" * VALUE_BYTES
    keys: list[str] = []
    refusal: Attempt | None = None
    while refusal is None and len(keys) * VALUE_BYTES < 2 * limit:
        some = {f"{prefix}{MARK}:{number}": value for number in range(len(keys), len(keys) + AT_ONCE)}
        for key, tried in zip(some, _set_all(admin, some), strict=True):
            if tried.answered and refusal is None:
                keys.append(key)
            elif refusal is None:
                refusal = tried
    if refusal is None or (not refusal.holds("OOM") and not refusal.holds("maxmemory")):
        yield Finding(
            "(server)", instance, f"takes twice its limit of {limit} bytes: {refusal or 'no write is refused'}"
        )
    there = attempt(admin, "EXISTS", *keys).answer
    evicted = _figure(admin, "stats", "evicted_keys")
    if there != len(keys) or evicted:
        yield Finding(
            "(server)", instance, f"evicts {evicted} keys; {there} of {len(keys)} acknowledged ones are there"
        )
    require(attempt(admin, "UNLINK", *keys[: len(keys) // 2]).answered, "a full instance does not even delete")
    again = attempt(admin, "SET", f"{prefix}{MARK}:again", value, "EX", SECONDS)
    if not again.answered:
        yield Finding("(server)", instance, f"still refuses writes when half is deleted: {again}")
    refused = _error_count(admin)
    yield Note(
        f"{instance}: full after {len(keys)} keys of {VALUE_BYTES} bytes; {refused} writes refused, none evicted"
    )


def _prefixes(world: World, *, evicted: bool) -> list[tuple[str, str]]:
    """Return one prefix of each instance whose keys may be lost, or of those whose keys must not."""
    found = {
        k.instance: k.prefix for k in world.declared.keyspaces.keyspaces if (k.loss is Loss.MAY_BE_LOST) == evicted
    }
    return [(prefix, instance) for instance, prefix in found.items()]


def _limit(world: World, instance: str) -> int:
    return int(world.throw_away.directives(instance)["maxmemory"])


def _set_all(client: redis.Redis, values: dict[str, str]) -> list[Attempt]:
    return attempt_all(client, [("SET", key, value, "EX", SECONDS) for key, value in values.items()])


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    said = str(attempt(client, "INFO", section).answer)
    return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)


def _figure(client: redis.Redis, section: str, name: str) -> int:
    return int(_info(client, section)[name])


def _error_count(client: redis.Redis) -> str:
    return str(_info(client, "errorstats").get("errorstat_OOM", "count=0")).removeprefix("count=")
