"""Is the MongoDB server set up so that it runs no code, listens where it should and is as declared?"""

from collections.abc import Callable
from typing import Any

from pymongo.errors import OperationFailure

from dbkeep.checks.access import Access
from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment, Host
from dbkeep.mongodb import inventory

UNAUTHORIZED = 13
SITE = "run playbooks/site.yml (role mongodb); mongod.conf is made from the inventory"


@control(
    "MG-DRIFT",
    "MongoDB is as declared: the plan is empty",
    severity="high",
    sources=("dbkeep design: one diff for plan, apply, drift and checks",),
    fix="look at `dbkeep plan mongodb`, then run `dbkeep apply mongodb`",
)
def test_plan_is_empty(
    environment: Environment, target: Host, plan: Callable[[str], list[dict[str, Any]]], observe: Observe
) -> None:
    if target != environment.hosts("mongodb")[0]:
        not_applicable("the plan is the replica set's: the first host of the group is asked for it")
    changes = [f"{change['kind']} {change['target']}: {change['summary']}" for change in plan("mongodb")]
    observe(changes=changes)
    assert not changes, f"{len(changes)} changes, first {changes[0]}"


# The oldest patch releases without CVE-2025-14847 (unauthenticated read of uninitialised memory), by major version.
PATCHED = {(7, 0): 28, (8, 0): 17, (8, 2): 3}


@control(
    "MG-VER-01",
    "The server's version is supported by its vendor and patched",
    severity="critical",
    sources=("CIS MongoDB 7 1.1", "CVE-2025-14847", "MongoDB Software Lifecycle Schedules"),
    fix="upgrade: set mongodb_version in the inventory to a supported release and run playbooks/site.yml",
)
def test_version_is_patched(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    major, minor, patch = mongodb_facts["version"]
    oldest = PATCHED.get((major, minor))
    observe(version=mongodb_facts["versions"]["mongodb"], oldest_patched=oldest)
    newer_line = (major, minor) > max(PATCHED)
    assert newer_line or oldest is not None, f"{major}.{minor} is past its end of life or was never a release line"
    assert newer_line or patch >= (oldest or 0), f"{major}.{minor}.{patch} is older than {major}.{minor}.{oldest}"


ACCUMULATOR = {
    "init": "function() { return 0 }",
    "accumulate": "function(state) { return state }",
    "accumulateArgs": [],
    "merge": "function(a, b) { return a }",
    "lang": "js",
}


def aggregate(*stages: dict[str, Any]) -> dict[str, Any]:
    return {"aggregate": "messages", "pipeline": list(stages), "cursor": {}}


@control(
    "MG-JS-01",
    "The server runs no JavaScript of its clients",
    severity="high",
    sources=("CIS MongoDB 7 6.3", "STIG SV-252143"),
    fix=SITE,
)
def test_no_javascript(access: Access, target: Host, mongodb_facts: dict[str, Any], observe: Observe) -> None:
    observe(javascriptEnabled=mongodb_facts["options"].get("security", {}).get("javascriptEnabled"))
    ran = []
    with access.mongodb(target, "chat_api") as client:
        observe(plain_find=len(list(client.chat.messages.find({}, {"_id": 1}).limit(1))))
        # $facet makes one document even of an empty collection, so that there is something to evaluate.
        one = {"$facet": {"found": [{"$limit": 1}, {"$count": "n"}]}}
        function = {"$function": {"body": "function() { return 1 }", "args": [], "lang": "js"}}
        attempts: dict[str, dict[str, Any]] = {
            "where": {"find": "messages", "filter": {"$where": "return true"}, "limit": 1},
            "function": aggregate(one, {"$project": {"ran": function}}),
            "accumulator": aggregate(one, {"$group": {"_id": None, "ran": {"$accumulator": ACCUMULATOR}}}),
        }
        for name, command in attempts.items():
            try:
                client.chat.command(command)
                ran.append(f"${name}")
            except OperationFailure as error:
                observe(**{name: f"code {error.code}: {(error.details or {}).get('errmsg', '')[:80]}"})
                if error.code == UNAUTHORIZED:
                    ran.append(f"${name} (denied before it was looked at: the probe proves nothing)")
    assert not ran, f"the server accepts {', '.join(ran)}"


@control(
    "MG-NET-01",
    "The server listens where the inventory says and on the loopback, and nowhere else",
    severity="critical",
    sources=("MongoDB manual: net.bindIp",),
    fix=SITE,
)
def test_bind_addresses(target: Host, mongodb_facts: dict[str, Any], observe: Observe) -> None:
    net = mongodb_facts["options"].get("net", {})
    addresses = [address.strip() for address in net.get("bindIp", "localhost").split(",")]
    observe(bindIp=addresses, bindIpAll=net.get("bindIpAll", False))
    assert not net.get("bindIpAll"), "net.bindIpAll is set"
    allowed = {"127.0.0.1", "::1", "localhost", inventory.member(target).rpartition(":")[0].strip("[]")}
    surplus = [address for address in addresses if address not in allowed]
    assert not surplus, f"net.bindIp holds {', '.join(surplus)}"


@control(
    "MG-NET-04",
    "The server offers no compression by zlib, which reads memory without a logon where it is not patched",
    severity="high",
    sources=("CVE-2025-14847", "MongoDB manual: net.compression.compressors"),
    fix=SITE,
)
def test_no_zlib(access: Access, target: Host, observe: Observe) -> None:
    with access.mongodb(target, None) as client:
        answer = client.admin.command("hello", compression=["zlib", "zstd", "snappy"])
    observe(offered=answer.get("compression", []))
    assert answer.get("isreplicaset") or answer.get("setName"), "this is no answer to hello"
    assert "zlib" not in answer.get("compression", []), "the server agrees to zlib"


@control(
    "MG-LOG-03",
    "The profiler keeps no queries",
    severity="medium",
    sources=("STIG SV-252168", "MongoDB manual: Database Profiler"),
    fix="db.setProfilingLevel(0) on the database; the slow query log remains",
)
def test_profiler_is_off(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    profile = mongodb_facts["profile"]
    observe(level=profile["was"], slowms=profile["slowms"])
    assert profile["was"] == 0, f"the profiling level is {profile['was']}"


@control(
    "MG-OPS-02",
    "Test commands are off",
    severity="high",
    sources=("MongoDB manual: MongoDB Server Parameters",),
    fix=SITE,
)
def test_no_test_commands(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    value = mongodb_facts["parameters"]["enableTestCommands"]
    observe(enableTestCommands=value)
    assert value is False, f"enableTestCommands is {value}"


@control(
    "MG-FS-01",
    "Data, configuration, keyfile and key belong to mongodb or root and are closed to others",
    severity="high",
    sources=("CIS MongoDB 7 7.1", "CIS MongoDB 7 7.2", "STIG SV-252153"),
    fix=SITE,
)
def test_files_are_closed(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    files = mongodb_facts["files"]
    observe(**files)
    assert len(files) == 4, f"only {', '.join(files)} is there"
    wrong = [
        f"{path} ({file['owner']}:{file['group']} {file['mode']})"
        for path, file in files.items()
        if int(file["mode"], 8) & 0o027 or file["owner"] not in ("mongodb", "root")
    ]
    assert not wrong, f"open: {', '.join(wrong)}"
