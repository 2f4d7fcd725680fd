"""P43 to P45: are faults that servers once had still mended, with the declared settings?"""

from __future__ import annotations

from collections.abc import Iterator

import redis

from dbkeep.prove.probe import Finding, Note, require
from dbkeep.redis.connect import connect
from dbkeep.redis.prove.attempts import attempt
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.seed import MARK, SECONDS
from dbkeep.redis.prove.world import World
from dbkeep.secrets import new_password

LENT, KEY = "dbkeep_lent", f"{MARK}:fault"
LOWEST, HIGHEST = str(-(2**63)), str(2**63 - 1)
# By the type of the key; each ended or hung a server that did not have the fix.
ENDED_SERVERS = {
    "hash": ("HSET {key} a 1 b 2", "HRANDFIELD {key} {lowest} WITHVALUES", "HRANDFIELD {key} {lowest}",
             "HINCRBYFLOAT {key} a 1e4000", "HGETALL {key}"),
    "zset": ("ZADD {key} 1 a 2 b", "ZRANDMEMBER {key} {lowest} WITHSCORES", "ZRANDMEMBER {key} {lowest}",
             "ZUNION 1 {key} WEIGHTS inf"),
    "set": ("SADD {key} a b", "SRANDMEMBER {key} {lowest}", "SPOP {key} {highest}"),
    "string": ("SET {key} x", "MSETNX {key}2 a {key}2 b", "SETRANGE {key} {highest} x", "GETRANGE {key} 0 {highest}",
               "LCS {key} {key} IDX MINMATCHLEN {highest}", "BITFIELD {key} SET u63 {highest} 1"),
    "stream": ("XADD {key} 1-1 a 1", "XGROUP CREATE {key} g 0", "XREADGROUP GROUP g c STREAMS {key} >",
               "XDEL {key} 1-1", "XAUTOCLAIM {key} g c 0 0 COUNT {highest}"),
    "list": ("RPUSH {key} a b", "SORT {key} LIMIT {highest} {highest} ALPHA", "LPOS {key} a RANK {lowest}",
             "LMPOP 1 {key} LEFT COUNT {highest}"),
    "geo": ("GEOADD {key} 1 1 a", "GEOSEARCH {key} FROMLONLAT 1 1 BYRADIUS 1e308 km COUNT {highest}"),
    "none": ("COMMAND GETKEYS MSET a", "COMMAND GETKEYSANDFLAGS EVAL x 1", "COMMAND GETKEYS ZUNIONSTORE a {highest} b",
             "EVAL return(string.rep(1,2)) 0", "PUBLISH {key} x"),
}  # fmt: skip
SOURCES = ("CVE-2023-22458", "CVE-2023-25155", "CVE-2022-35951", "CVE-2023-28425", "CVE-2023-28856", "CVE-2023-36824")
# A pattern that a naive matcher tries in every way: with a name of twenty letters that takes minutes.
SLOW = ("KEYS", "*a" * 40 + "b")
PATIENCE_SECONDS = 10


@probe("P43", "Commands that ended servers with old faults do not end this one", area="regressions", sources=SOURCES,
       live=False)  # fmt: skip
def crashes(world: World) -> Iterator[Finding | Note]:
    for instance in world.instances:
        born = _run_id(world, instance)
        password, number = new_password(), 0
        rules = ("reset", "on", f">{password}", "~*", "&*", "+@all", "-@admin")
        require(attempt(world.admin(instance), "ACL", "SETUSER", LENT, *rules).answered, "cannot lend commands")
        with world.connect(instance, None) as client:
            require(attempt(client, "AUTH", LENT, password).answered, f"{LENT} is not let in")
            for lines in ENDED_SERVERS.values():
                for line in lines:
                    words = line.format(key=KEY, lowest=LOWEST, highest=HIGHEST).split()
                    number += 1
                    tried = attempt(client, *words)
                    if tried.lost or tried.locked_out:  # a connection that was closed is a new one
                        yield Finding("(any)", f"{instance} {line.partition(' ')[0]}", "the server closes or hangs")
                        attempt(client, "AUTH", LENT, password)
                attempt(client, "DEL", KEY, f"{KEY}2")
        if _run_id(world, instance) != born:
            yield Finding("(any)", instance, "the server ended and was started again")
        attempt(world.admin(instance), "ACL", "DELUSER", LENT)
        yield Note(f"{number} commands on {instance}")


def _run_id(world: World, instance: str) -> str:
    said = str(attempt(world.admin(instance), "INFO", "server").answer)
    return next((line for line in said.splitlines() if line.startswith("run_id:")), "gone")


@probe("P44", "A pattern cannot keep the server busy", area="regressions", sources=("CVE-2022-36021", "CVE-2024-31228"),
       live=False)  # fmt: skip
def patterns(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        admin = world.admin(instance)
        attempt(admin, "SET", "a" * 60, "x", "EX", SECONDS)
        with world.connect(instance, world.users(instance)[0], socket_timeout=PATIENCE_SECONDS) as other:
            require(attempt(other, "PING").answered, f"{instance} does not answer")
            settings = world.throw_away.settings.instances[instance]
            with connect(instance, settings) as asking:
                connection = asking.connection_pool.get_connection()
                connection.send_command(*SLOW)  # type: ignore[no-untyped-call]
                if attempt(other, "PING").lost:
                    yield Finding("(any)", f"{instance} KEYS", "a pattern keeps the server busy")
                connection.disconnect()  # type: ignore[no-untyped-call]


@probe("P45", "A dump with a forged inside is refused by RESTORE", area="regressions", live=False,
       sources=("redis.conf: sanitize-dump-payload", "CVE-2026-25243", "CVE-2021-32761"))  # fmt: skip
def forged_dumps(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        attempt(world.admin(instance), "HSET", KEY, "f", "v")
        with _raw(world, instance) as client:
            dump = client.execute_command("DUMP", KEY)
            attempt(client, "DEL", KEY)
            require(attempt(client, "RESTORE", KEY, "0", dump).answered, "an honest dump is refused")
            attempt(client, "DEL", KEY)
            forged = _forged(dump)
            require(forged != dump, "the dump has no field of one letter to forge")
            tried = attempt(client, "RESTORE", KEY, "0", forged)
            if tried.answered:
                yield Finding("(any)", f"{instance} RESTORE", "takes an entry that says it is longer than the whole")
                attempt(client, "DEL", KEY)


def _raw(world: World, instance: str) -> redis.Redis:
    """Return the administrator's connection for bytes: a dump is no text."""
    settings = world.throw_away.settings.instances[instance]
    password = settings.password_file.read_text(encoding="utf-8").strip() if settings.password_file else None
    client = redis.Redis(unix_socket_path=str(settings.socket), username=settings.user, password=password)
    client.response_callbacks.clear()
    return client


def _forged(dump: bytes) -> bytes:
    """Let a string of one letter (listpack: 0x81, then the letter) say that it has 63, and mend the checksum."""
    body = dump[:-8].replace(b"\x81f", b"\xbff", 1)
    return body + _crc64(body).to_bytes(8, "little")


def _crc64(data: bytes) -> int:
    """Return the checksum of a dump (CRC-64 of Jones, reflected, as Redis has it)."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x95AC9329AC4BC9B5 if value & 1 else 0)
    return value
