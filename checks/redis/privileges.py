"""Does every user of Redis reach its own keys and commands, and nothing else?"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Any

import redis

from dbkeep.checks.access import INSTANCES, Access
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

APPLY = "run `dbkeep drift redis`, then `dbkeep apply redis`; users are in redis/acl.yml"

# None of these does harm when it is allowed: they read, or name a key that nobody has.
HARMLESS = (
    "KEYS dbkeep:probe",
    "SCAN 0 COUNT 1",
    "RANDOMKEY",
    "DBSIZE",
    "CONFIG GET maxmemory",
    "ACL LIST",
    "CLIENT LIST",
    "EVAL return(1) 0",
    "SCRIPT EXISTS 0",
    "FUNCTION LIST",
    "MODULE LIST",
    "MEMORY STATS",
    "SLOWLOG GET 1",
    "OBJECT FREQ dbkeep:probe",
    "DUMP dbkeep:probe",
    "LASTSAVE",
)
# These would do harm, so they are only asked about (ACL DRYRUN, Redis 7.0).
HARMFUL = (
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG SET maxmemory 0",
    "CONFIG REWRITE",
    "ACL SETUSER probe",
    "SHUTDOWN",
    "REPLICAOF no one",
    "MIGRATE localhost 1 dbkeep:probe 0 1",
    "RESTORE dbkeep:probe 0 x",
    "FUNCTION LOAD x",
    "SCRIPT LOAD x",
    "MODULE LOAD x",
    "MONITOR",
    "BGREWRITEAOF",
    "SWAPDB 0 1",
    "CLIENT KILL TYPE normal",
    "SORT dbkeep:probe BY *",
    "RENAME dbkeep:probe dbkeep:probe2",
    "COPY dbkeep:probe dbkeep:probe2",
)
SERVICES = ("svc_auth", "svc_api", "svc_ws")


def refusal(client: redis.Redis, *words: str) -> str:
    """Return "refused" when the server denies the command for want of rights, else what it said."""
    try:
        answer = client.execute_command(*words)  # type: ignore[no-untyped-call]
        return f"answered {answer!r}"[:60]
    except redis.exceptions.NoPermissionError:
        return "refused"
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"[:60]


@control(
    "RD-ACL-03",
    "Only admin may use every command, key or channel",
    severity="critical",
    sources=("redis-baseline 31", "Redis manual: ACL"),
    fix=APPLY,
)
def test_only_admin_is_unlimited(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = []
    for name in INSTANCES:
        users = redis_facts["instances"][name]["users"]
        observe(**{name: {user: [entry["keys"], *entry["selectors"]] for user, entry in users.items()}})
        assert "admin" in users, f"{name} has no user admin: the observation is wrong"
        for user, entry in users.items():
            words = f"{entry['keys']} {entry['channels']} {' '.join(entry['selectors'])}".split() + entry["categories"]
            unlimited = {"~*", "&*", "allkeys", "allchannels", "%RW~*", "+@all"}.intersection(words)
            if user != "admin" and "off" not in entry["flags"] and unlimited:
                wrong.append(f"{name}: {user} ({', '.join(sorted(unlimited))})")
    assert not wrong, "; ".join(wrong)


@control(
    "RD-ACL-05",
    "No service may run a command that destroys, reconfigures or takes over the server",
    severity="critical",
    sources=("STIG V-251188", "Redis manual: ACL DRYRUN", "CVE-2025-49844"),
    fix=APPLY,
)
def test_harmful_commands(redis_dry_run: Callable[[list[list[str]]], dict[str, Any]], observe: Observe) -> None:
    attempts = [[user, *command.split()] for user in SERVICES for command in HARMFUL]
    found = redis_dry_run([*attempts, ["admin", "FLUSHALL"]])
    wrong = []
    for name in INSTANCES:
        *answers, positive = found[name]
        assert positive["allowed"], (
            f"{name}: even admin is refused ({positive['answer']}): the probe would prove nothing"
        )
        known = [entry for entry in answers if "not found" not in entry["answer"]]
        observe(**{name: {"tried": len(known), "allowed": [entry["attempt"] for entry in known if entry["allowed"]]}})
        assert known, f"{name} knows none of the services' users"
        wrong += [f"{name}: {' '.join(entry['attempt'])}" for entry in known if entry["allowed"]]
    assert not wrong, f"allowed: {', '.join(wrong)}"


@control(
    "RD-ACL-06",
    "The API's user cannot list keys, run scripts or read the server's settings, tried by attempt",
    severity="high",
    sources=("Redis manual: ACL", "CVE-2025-49844"),
    fix=APPLY,
)
def test_harmless_commands(access: Access, target: Host, observe: Observe) -> None:
    wrong = []
    for name in INSTANCES:
        with access.redis(target, name, "svc_api") as client:
            assert client.ping(), f"{name}: svc_api gets no answer"
            answers = {command: refusal(client, *command.split()) for command in HARMLESS}
        observe(**{name: answers})
        wrong += [f"{name}: {command} ({answer})" for command, answer in answers.items() if answer != "refused"]
    assert not wrong, f"not refused: {'; '.join(wrong)}"


@control(
    "RD-ACL-12",
    "No service reaches the keys of another, or its own by other commands than theirs, tried by attempt",
    severity="critical",
    sources=("Redis manual: ACL, Key permissions",),
    fix=APPLY,
)
def test_foreign_keys(access: Access, target: Host, observe: Observe) -> None:
    probe = "dbkeep-probe"
    tries = (
        ("svc_api", "state", True, "GET", f"sess:{probe}"),
        ("svc_api", "state", False, "SET", f"sess:{probe}", "1", "EX", "1"),
        ("svc_api", "state", False, "GET", f"rl:auth:{probe}"),
        ("svc_api", "state", False, "GET", probe),
        ("svc_api", "cache", True, "GET", f"cache:{probe}"),
        ("svc_api", "cache", False, "GET", f"sess:{probe}"),
        ("svc_auth", "state", True, "GET", f"sess:{probe}"),
        ("svc_auth", "state", False, "GET", f"pres:{probe}"),
        ("svc_auth", "state", False, "PUBLISH", "conv:probe", "1"),
        ("svc_auth", "state", True, "GET", f"rl:auth:{probe}"),
        ("svc_auth", "state", False, "DEL", f"rl:auth:{probe}"),
        ("svc_api", "state", True, "ZCOUNT", f"pres:{probe}", "0", "1"),
        ("svc_api", "state", False, "GET", f"pres:{probe}"),
        ("svc_api", "state", False, "FCALL", "dbkeep_probe", "1", f"rl:api:{probe}"),
        ("svc_ws", "state", True, "ZCOUNT", f"pres:{probe}", "0", "1"),
        ("svc_ws", "state", False, "ZCOUNT", f"sess:{probe}", "0", "1"),
        ("svc_ws", "state", False, "PUBLISH", "ctl:session-revoked", "1"),
        ("chat_monitor", "state", False, "GET", f"sess:{probe}"),
        ("chat_audit", "state", False, "GET", f"sess:{probe}"),
    )
    wrong = []
    with ExitStack() as stack:
        client_of = cache(lambda user, instance: stack.enter_context(access.redis(target, instance, user)))
        for user, instance, allowed, *words in tries:
            answer = refusal(client_of(user, instance), *words)
            observe(**{f"{user} on {instance}: {' '.join(words)}": answer})
            if (answer != "refused") != allowed or answer.startswith(("ConnectionError", "AuthenticationError")):
                wrong.append(f"{user} on {instance}: {' '.join(words)}: {answer}")
    assert not wrong, "; ".join(wrong)
