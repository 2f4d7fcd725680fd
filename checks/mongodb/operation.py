"""Does the server keep what it acknowledged, say what it does, and leave the host's memory to the others?"""

from typing import Any

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment, Host

SITE = "run playbooks/site.yml (role mongodb); mongod.conf is made from the inventory"
SLOW_MS = 100
SMALLEST_CACHE = 2**28
WANTED_LOG = {"destination": "file", "logAppend": True, "logRotate": "reopen", "quiet": False}
NEIGHBOURS = {"postgresql", "redis", "chat_api"}


@control(
    "MG-LOG-01",
    "The server writes everything to one log file, which is rotated and not lost by it",
    severity="medium",
    sources=("CIS MongoDB 7 5.3", "CIS MongoDB 7 5.4", "MongoDB manual: Rotate Log Files"),
    fix=f"{SITE}; after a rotation by hand: systemctl kill --kill-whom=main --signal=SIGUSR1 mongod",
)
def test_log_is_written_and_rotated(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    log = mongodb_facts["process"]["log"]
    observe(**log)
    wrong = [f"{key} is {log[key]}" for key, value in WANTED_LOG.items() if log[key] != value]
    wrong += [] if log["is_written"] else [f"mongod has not opened {log['path']}: a rotation took its file away"]
    wrong += [] if log["is_rotated"] else [f"no rule of logrotate names {log['path']}"]
    assert not wrong, "; ".join(wrong)


@control(
    "MG-LOG-05",
    "Slow operations get into the log, from the inventory's threshold on",
    severity="low",
    sources=("MongoDB manual: operationProfiling.slowOpThresholdMs",),
    fix="db.setProfilingLevel(0, {slowms: N, sampleRate: 1}) with mongodb_slow_operation_ms, or restart mongod",
)
def test_slow_operations_are_logged(environment: Environment, mongodb_facts: dict[str, Any], observe: Observe) -> None:
    profile = mongodb_facts["profile"]
    observe(**profile)
    declared = int(environment.variables.get("mongodb_slow_operation_ms", SLOW_MS))
    assert profile["slowms"] == declared, f"only operations over {profile['slowms']} ms are logged, not {declared}"
    assert profile["sampleRate"] == 1, f"only {profile['sampleRate']:.0%} of the slow operations are logged"


@control(
    "MG-OPS-04",
    "What a majority acknowledged is in its journals",
    severity="critical",
    sources=("MongoDB manual: Journaling", "MongoDB manual: writeConcernMajorityJournalDefault"),
    fix=f"{SITE}; set writeConcernMajorityJournalDefault to true by rs.reconfig()",
)
def test_writes_are_journaled(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    written = mongodb_facts["process"]["journal_bytes"]
    default = mongodb_facts["replica_set"]["majority_is_journaled"]
    observe(journal_bytes=written, writeConcernMajorityJournalDefault=default)
    assert written > 0, "the server has written nothing to a journal"
    assert default is True, f"writeConcernMajorityJournalDefault is {default}"


@control(
    "MG-OPS-05",
    "The cache takes its share of the host's memory and leaves the neighbours theirs",
    severity="medium",
    sources=("MongoDB manual: storage.wiredTiger.engineConfig.cacheSizeGB",),
    fix=f"{SITE}; mongodb_memory_share is the share",
)
def test_cache_fits_the_host(target: Host, mongodb_facts: dict[str, Any], observe: Observe) -> None:
    cache, memory = (mongodb_facts["process"][name] for name in ("cache_bytes", "memory_bytes"))
    neighbours = sorted(NEIGHBOURS & target.groups)
    most = 0.3 if neighbours else 0.6
    observe(cache_bytes=cache, memory_bytes=memory, neighbours=neighbours, most=most)
    assert cache >= SMALLEST_CACHE, f"a cache of {cache} bytes is less than the 256 MiB that mongod takes at least"
    too_much = cache > max(SMALLEST_CACHE, most * memory)
    assert not too_much, f"the cache may take {cache / memory:.0%} of the memory, and the most is {most:.0%} here"
