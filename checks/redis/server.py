"""Does each Redis instance keep what it must, forget what it must, and is it as declared?"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from dbkeep.checks.access import INSTANCES
from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.engines import declared_state
from dbkeep.environment import Environment, Host, checkout
from dbkeep.redis.declared import Declared

APPLY = "run `dbkeep drift redis`, then `dbkeep apply redis`; settings are in redis/instances.yml"
FULL = 0.9
SITE = "run playbooks/site.yml (role redis); a setting that needs a restart is restarted only when that is allowed"


def compare(
    redis_facts: dict[str, Any], observe: Observe, wanted: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> list[str]:
    """Record the named settings of each instance and return those that have another value."""
    wrong = []
    for name, settings in wanted.items():
        configuration = redis_facts["instances"][name]["configuration"]
        observe(**{name: {setting: configuration.get(setting) for setting in settings}})
        wrong += [
            f"{name}: {setting} is {configuration.get(setting)!r}"
            for setting, values in settings.items()
            if configuration.get(setting) not in values
        ]
    return wrong


@control(
    "RD-DRIFT",
    "Redis is as declared: the plan is empty",
    severity="high",
    sources=("dbkeep design: one diff for plan, apply, drift and checks",),
    fix="look at `dbkeep plan redis`, then run `dbkeep apply redis`",
)
def test_plan_is_empty(
    environment: Environment, target: Host, plan: Callable[[str], list[dict[str, Any]]], observe: Observe
) -> None:
    if target != environment.hosts("redis")[0]:
        not_applicable("the plan is made for the first host of the group")
    changes = [f"{change['kind']} {change['target']}: {change['summary']}" for change in plan("redis")]
    observe(changes=changes)
    assert not changes, f"{len(changes)} changes, first {changes[0]}"


@control(
    "RD-MEM-01",
    "Every instance has a memory limit",
    severity="high",
    sources=("Redis manual: Key eviction",),
    fix=APPLY,
)
def test_memory_limit(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = []
    for name in INSTANCES:
        memory = redis_facts["instances"][name]["memory"]
        observe(**{name: memory})
        if not memory["maxmemory"]:
            wrong.append(f"{name} has no limit")
    assert not wrong, "; ".join(wrong)


@control(
    "RD-MEM-02",
    "State is never evicted; the cache evicts what is used least",
    severity="high",
    sources=("Redis manual: Key eviction",),
    fix=APPLY,
)
def test_eviction_policy(redis_facts: dict[str, Any], observe: Observe) -> None:
    wanted = {"state": {"maxmemory-policy": ("noeviction",)}, "cache": {"maxmemory-policy": ("allkeys-lfu",)}}
    wrong = compare(redis_facts, observe, wanted)
    evicted = redis_facts["instances"]["state"]["evicted_keys"]
    observe(evicted_from_state=evicted)
    assert not wrong, "; ".join(wrong)
    assert not evicted, f"state has evicted {evicted} keys since it started"


@control(
    "RD-MEM-03",
    "State has room: what is full refuses to write",
    severity="critical",
    sources=("Redis manual: Key eviction", "dbkeep design: state is never evicted"),
    fix="see who writes so much (RD-PER-05 counts keys by prefix), or give the host or memory_share more",
)
def test_state_has_room(redis_facts: dict[str, Any], observe: Observe) -> None:
    memory = redis_facts["instances"]["state"]["memory"]
    used, limit = memory["used_memory"], memory["maxmemory"]
    observe(**memory)
    what = "refuses" if used >= limit else "is about to refuse"
    assert not limit or used <= FULL * limit, f"state uses {used} of {limit} bytes: it {what} to write"


@control(
    "RD-PER-01",
    "State is written to an append-only file every second, and the last write worked",
    severity="high",
    sources=("Redis manual: Persistence", "redis-baseline 73"),
    fix="run `dbkeep apply redis`; when the last write failed, look at the disk and `journalctl -u redis-server@state`",
)
def test_state_is_written(redis_facts: dict[str, Any], observe: Observe) -> None:
    wanted = {"state": {"appendonly": ("yes",), "appendfsync": ("everysec", "always")}}
    wrong = compare(redis_facts, observe, wanted)
    persistence = redis_facts["instances"]["state"]["persistence"]
    observe(persistence=persistence)
    wrong += [f"{name} is {value}" for name, value in persistence.items() if name != "aof_enabled" and value != "ok"]
    assert persistence["aof_enabled"], "the append-only file is off"
    assert not wrong, "; ".join(wrong)


@control(
    "RD-PER-03",
    "The cache keeps nothing on disk",
    severity="medium",
    sources=("Redis manual: Persistence",),
    fix=APPLY,
)
def test_cache_is_not_written(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = compare(redis_facts, observe, {"cache": {"appendonly": ("no",), "save": ("",)}})
    assert not wrong, "; ".join(wrong)


@control(
    "RD-CFG-01",
    "Protected settings, DEBUG and MODULE stay off whatever a client sends",
    severity="high",
    sources=("Redis manual: Security", "redis.conf: enable-protected-configs"),
    fix=SITE,
)
def test_protected_settings(redis_facts: dict[str, Any], observe: Observe) -> None:
    off = {f"enable-{name}": ("no",) for name in ("protected-configs", "debug-command", "module-command")}
    wanted = {name: {**off, "protected-mode": ("yes",), "acl-pubsub-default": ("resetchannels",)} for name in INSTANCES}
    wrong = compare(redis_facts, observe, wanted)
    assert not wrong, "; ".join(wrong)


@control(
    "RD-NET-01",
    "The server listens on named addresses, not on every one",
    severity="critical",
    sources=("Redis manual: Security", "redis-baseline 76"),
    fix=SITE,
)
def test_bind_addresses(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = []
    for name in INSTANCES:
        addresses = redis_facts["instances"][name]["configuration"]["bind"].split()
        observe(**{name: addresses})
        every = {"*", "-::*", "0.0.0.0", "::"}.intersection(addresses)  # noqa: S104 - compared, not bound
        if every or not addresses:
            wrong.append(f"{name} binds {', '.join(every) or 'every address'}")
    assert not wrong, "; ".join(wrong)


@control(
    "RD-FS-01",
    "ACL file, data folder and socket are closed to others",
    severity="high",
    sources=("redis-baseline 65", "Redis manual: ACL, external ACL file"),
    fix=SITE,
)
def test_files_are_closed(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = []
    for name in INSTANCES:
        instance = redis_facts["instances"][name]
        files = {**instance["files"], **instance["sockets"]}
        observe(**{name: files})
        assert len(files) == 3, f"{name}: only {', '.join(files)} is there"
        wrong += [f"{path} ({file['mode']})" for path, file in files.items() if int(file["mode"], 8) & 0o007]
    assert not wrong, f"open: {', '.join(wrong)}"


@control(
    "RD-FUN-01",
    "The declared function libraries are loaded, byte for byte, and no other",
    severity="high",
    sources=("Redis manual: Functions", "CVE-2025-49844"),
    fix=APPLY + "; functions are in redis/functions",
)
def test_functions_are_the_declared(environment: Environment, redis_facts: dict[str, Any], observe: Observe) -> None:
    declared = declared_state("redis", checkout(), environment.variables)
    assert isinstance(declared, Declared)
    digests = {library.name: hashlib.sha256(library.code.encode()).hexdigest() for library in declared.libraries}
    wrong = []
    for name in INSTANCES:
        wanted = {function: digests[function] for function in declared.instances.instances[name].functions}
        loaded = redis_facts["instances"][name]["libraries"]
        observe(**{name: loaded})
        wrong += [f"{name}: {library} is missing" for library in wanted.keys() - loaded.keys()]
        wrong += [f"{name}: {library} is not declared" for library in loaded.keys() - wanted.keys()]
        both = wanted.keys() & loaded.keys()
        wrong += [f"{name}: {library} has other code" for library in both if loaded[library] != wanted[library]]
    assert not wrong, "; ".join(wrong)


@control(
    "RD-MOD-01",
    "No module is loaded",
    severity="medium",
    sources=("Redis manual: MODULE LIST", "redis-baseline 2"),
    fix="remove loadmodule from the configuration and restart the instance when that is allowed",
)
def test_no_module(redis_facts: dict[str, Any], observe: Observe) -> None:
    loaded = {name: redis_facts["instances"][name]["modules"] for name in INSTANCES}
    observe(**loaded)
    assert not any(loaded.values()), "; ".join(f"{name}: {', '.join(m)}" for name, m in loaded.items() if m)
