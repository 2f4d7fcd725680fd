"""Changes the members of a replica set one step at a time, so that a majority takes writes at every moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pymongo.errors import NotPrimaryError, OperationFailure

from dbkeep.errors import DbkeepError
from dbkeep.mongodb.bootstrap import wait_for_primary
from dbkeep.mongodb.connect import Client, Document, address, hello
from dbkeep.mongodb.statements import COPY, FULL_MEMBER, Reconfiguration
from dbkeep.settings import MongoDBSettings

CAUGHT_UP_SECONDS = 10
SILENT_SECONDS = 60
BUSY_SECONDS = 60
START_SECONDS = 600
STEP_DOWN_SECONDS = 60

# ConfigurationInProgress, CurrentConfigNotCommittedYet.
BUSY = frozenset({109, 308})
INCOMPATIBLE = 103  # NewReplicaSetConfigurationIncompatible, also when another version came first

Members = list[Document]


def reconfigure(connection: Client, settings: MongoDBSettings, step: Reconfiguration) -> None:
    """Make one step of one member. A member that gets a vote has a copy of the data before.

    Raises DbkeepError when the member does not answer, PyMongoError when the server refuses or the primary is lost.
    """
    host = step.host
    if step.verb == "add":
        _change(connection, lambda members: _with(host, members))
        try:
            _wait_for_copy(connection, host)
        except NeverHeardError:
            _change(connection, lambda members: _without(host, members))
            raise
    elif step.verb == "complete":
        _wait_for_copy(connection, host)
        _change(connection, lambda members: [m | FULL_MEMBER if m["host"] == host else m for m in members])
    else:
        if connection.admin.command("hello")["me"] == host:
            connection.admin.command("replSetStepDown", STEP_DOWN_SECONDS)
            wait_for_primary(settings)
        _change(connection, lambda members: _without(host, members))


class NeverHeardError(DbkeepError):
    """A member that was added never answered the primary: it is another set's, or cannot be reached."""


def wait_until_it_serves(settings: MongoDBSettings) -> None:
    """Return when the server here answers as a primary or a secondary, or is in no replica set yet.

    Raises DbkeepError after ten minutes.
    """
    deadline, without = time.monotonic() + START_SECONDS, 0
    while time.monotonic() < deadline:
        answer = hello(settings, 1000) or {}
        if answer.get("isWritablePrimary") or answer.get("secondary"):
            return
        # Between its first answer and reading its configuration a server says that it has none.
        without = without + 1 if answer.get("isreplicaset") else 0
        if without > 3:
            return
        time.sleep(0.5)
    raise DbkeepError(
        f"mongod at {address(settings)} started and is neither primary nor secondary after {START_SECONDS} s; "
        "read /var/log/mongodb/mongod.log there, then run playbooks/site.yml again"
    )


def _with(host: str, members: Members) -> Members:
    number = 1 + max(int(member["_id"]) for member in members)
    return [*_without(host, members), {"_id": number, "host": host, **COPY}]


def _without(host: str, members: Members) -> Members:
    return [member for member in members if member["host"] != host]


def _change(connection: Client, change: Callable[[Members], Members]) -> None:
    """Give the set the members that `change` makes of its own; the server takes one change of votes at a time."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        config = connection.admin.command("replSetGetConfig")["config"]
        wanted = {**config, "members": change(config["members"]), "version": config["version"] + 1}
        try:
            connection.admin.command("replSetReconfig", wanted)
            return
        except NotPrimaryError:
            # The driver did not know yet that another member is primary.
            if time.monotonic() > deadline:
                raise
        except OperationFailure as error:
            present = connection.admin.command("replSetGetConfig")["config"]["version"]
            overtaken = error.code == INCOMPATIBLE and present != config["version"]
            if not (overtaken or error.code in BUSY) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _wait_for_copy(connection: Client, host: str) -> None:
    """Return when a member has the data and follows the primary closely.

    A first copy takes as long as it takes; a member that the primary does not hear of for a minute is an error.
    """
    heard, never = time.monotonic(), True
    while True:
        members = {m["name"]: m for m in connection.admin.command("replSetGetStatus")["members"]}
        member: dict[str, Any] = members[host]
        if member["stateStr"] == "PRIMARY":
            return
        newest = max(m["optimeDate"] for m in members.values() if "optimeDate" in m)  # an arbiter has none
        if member["stateStr"] == "SECONDARY" and (newest - member["optimeDate"]).total_seconds() < CAUGHT_UP_SECONDS:
            return
        if member["health"] > 0:  # -1 before the first heartbeat
            heard, never = time.monotonic(), False
        elif time.monotonic() - heard > SILENT_SECONDS:
            reason = member.get("lastHeartbeatMessage") or "no heartbeat"
            text = f"the primary does not hear of it: {reason}; check mongod there, then run the same command again"
            raise NeverHeardError(text) if never else DbkeepError(text)
        time.sleep(0.2)
