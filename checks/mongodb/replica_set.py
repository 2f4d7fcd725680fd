"""Does the replica set have the members that it should, and can it lose one?"""

from typing import Any

import pytest

from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment, Host
from dbkeep.mongodb import inventory

SITE = "run playbooks/site.yml (role mongodb): the group mongodb of the inventory is the replica set"
# An idle set writes every ten seconds: only more than two of them are a lag.
LAG_SECONDS = 30
OPLOG_HOURS = 24


def several_members(environment: Environment, target: Host) -> None:
    """End the control where the inventory names one member only."""
    if len(inventory.members(environment, target)) == 1:
        not_applicable("the inventory names one member: the replica set has nothing to compare or to lose")


@control(
    "MG-REP-01",
    "The server is a primary or a secondary of its replica set, and the set has a primary",
    severity="high",
    sources=("MongoDB manual: Replica Set Deployment",),
    fix="look at rs.status() on the host; run playbooks/site.yml to initiate the set",
)
def test_replica_set(environment: Environment, target: Host, mongodb_facts: dict[str, Any], observe: Observe) -> None:
    replica_set = mongodb_facts["replica_set"]
    states = {member["host"]: member["state"] for member in replica_set["members"]}
    observe(name=replica_set["name"], states=states)
    wanted = environment.variables.get("mongodb_replica_set", "chat")
    assert replica_set["name"] == wanted, f"the replica set is {replica_set['name']}, not {wanted}"
    own = inventory.member(target)
    assert states.get(own) in ("PRIMARY", "SECONDARY"), f"{own} is {states.get(own, 'not a member')}"
    assert "PRIMARY" in states.values(), "no member takes writes"


@control(
    "MG-REP-02",
    "The members are those that the inventory names, each has data and a vote, and each answers",
    severity="high",
    sources=("MongoDB manual: Replica Set Configuration", "dbkeep design: closed world inside a named scope"),
    fix=f"{SITE}; one that does not answer: `systemctl status mongod` there",
)
def test_members_are_declared(
    environment: Environment, target: Host, mongodb_facts: dict[str, Any], observe: Observe
) -> None:
    members = {member["host"]: member for member in mongodb_facts["replica_set"]["members"]}
    declared = set(inventory.members(environment, target))
    observe(declared=sorted(declared), members=members)
    wrong = [f"{host} is missing" for host in sorted(declared - members.keys())]
    wrong += [f"{host} is not in the inventory" for host in sorted(members.keys() - declared)]
    for host, member in members.items():
        if member["arbiter"] or member["hidden"] or not member["votes"] or not member["priority"]:
            wrong.append(f"{host} cannot stand in for the primary (arbiter, hidden, without vote or priority)")
        if not member["answers"]:
            wrong.append(f"{host} does not answer ({member['state']})")
    assert members, "the server knows of no member"
    assert not wrong, "; ".join(wrong)


@control(
    "MG-REP-03",
    f"No member is more than {LAG_SECONDS} seconds behind",
    severity="medium",
    sources=("MongoDB manual: Replication Lag",),
    fix="look at rs.printSecondaryReplicationInfo(), the disk and the network of the member that is behind",
)
@pytest.mark.usefixtures("mongodb_primary")
def test_no_member_is_behind(
    environment: Environment, target: Host, mongodb_facts: dict[str, Any], observe: Observe
) -> None:
    several_members(environment, target)
    behind = {member["host"]: member["behind_seconds"] for member in mongodb_facts["replica_set"]["members"]}
    observe(behind_seconds=behind)
    assert len(behind) > 1, "the replica set has one member"
    wrong = [f"{host} ({seconds} s)" for host, seconds in behind.items() if seconds is None or seconds > LAG_SECONDS]
    assert not wrong, f"behind: {', '.join(wrong)}"


@control(
    "MG-REP-04",
    "Whichever member fails, the others are a majority that holds the data",
    severity="high",
    sources=("MongoDB manual: Replica Set Deployment Architectures",),
    fix="name three (or five, seven) hosts in the group mongodb and run playbooks/site.yml",
)
def test_one_member_may_fail(
    environment: Environment, target: Host, mongodb_facts: dict[str, Any], observe: Observe
) -> None:
    several_members(environment, target)
    members = mongodb_facts["replica_set"]["members"]
    votes = sum(member["votes"] for member in members)
    good = sum(
        member["votes"]
        for member in members
        if member["answers"] and not member["arbiter"] and member["state"] in ("PRIMARY", "SECONDARY")
    )
    observe(votes=votes, good=good)
    assert votes % 2 == 1, f"{votes} votes: with an even number no more members may fail than with one less"
    assert good - 1 > votes // 2, f"{good} of {votes} votes are up and have data: if one more fails, nothing is written"


@control(
    "MG-REP-05",
    f"A member that was away for {OPLOG_HOURS} hours can catch up",
    severity="medium",
    sources=("MongoDB manual: Replica Set Oplog (minimum oplog retention period)",),
    fix=f"{SITE}; mongodb_oplog_hours says for how long, and the disk must have room for it",
)
def test_oplog_reaches_back(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    oplog = mongodb_facts["replica_set"]["oplog"]
    assert oplog, "the server has no oplog"
    observe(**oplog)
    enough = oplog["kept_hours"] >= OPLOG_HOURS
    assert enough, f"entries are kept for {oplog['kept_hours']} hours, and the oplog spans {oplog['hours']}"
