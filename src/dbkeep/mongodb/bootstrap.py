"""Makes a replica set out of freshly started servers and gives it its administrator.

The localhost exception stays closed from the first start: the one account that exists before any user does is
`__system`, whose password is the content of the keyfile that the members share (MongoDB manual, "Internal/Membership
Authentication"). It is used here and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bson import Int64
from cryptography import x509
from pymongo.errors import OperationFailure, PyMongoError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import (
    LOGON_REFUSED,
    Document,
    address,
    administrator,
    client,
    describe,
    driver_errors,
    hello,
    of_member,
)
from dbkeep.mongodb.statements import ENGINE
from dbkeep.plan import Change, Plan
from dbkeep.plan import apply as apply_plan
from dbkeep.settings import MongoDBSettings

ELECTION_SECONDS = 30
NEIGHBOUR_MS = 2000
ADMINISTRATOR_ROLES = [{"role": "root", "db": "admin"}]


def plan(settings: MongoDBSettings, members: Sequence[str]) -> Plan:
    """Return what is missing until there is a replica set with an administrator.

    It is made of `members` ("host:port" each). Who else should be in a set that is there says the engine's plan.

    Raises UsageError when the local server does not answer or belongs to another replica set.
    """
    server, answer = _server_in_set(settings, members)
    changes = []
    if not answer.get("setName"):
        changes.append(_initiate(settings.replica_set, members))
    if server.certificate_key_file and not _administrator_exists(server):
        changes.append(_create_administrator(subject(server.certificate_key_file)))
    return Plan(ENGINE, tuple(changes))


def apply(
    settings: MongoDBSettings,
    members: Sequence[str],
    keyfile: Path | None,
    *,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Make it so and return the changes made. Without `keyfile` the server runs without access control (a sandbox).

    Raises UsageError as plan does, ApplyError at the first change that fails.
    """
    credentials = _internal_credentials(keyfile)
    planned = plan(settings, members)
    server, _ = _server_in_set(settings, members)

    def execute(change: Change) -> None:
        with driver_errors(server):
            change.operation(server, credentials)

    return apply_plan(planned, execute, on_change=on_change)


def subject(certificate: Path) -> str:
    """Return the subject of a PEM certificate as MongoDB names the user it stands for (RFC 2253).

    Raises UsageError when the file cannot be read or holds no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).subject.rfc4514_string()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{certificate}: no certificate can be read from it: {error}; run playbooks/site.yml"
        ) from None


def wait_for_primary(settings: MongoDBSettings) -> None:
    """Return when the replica set has a primary.

    Raises DbkeepError after half a minute without one.
    """
    deadline = time.monotonic() + ELECTION_SECONDS
    reason = "no answer"
    with client(settings, serverSelectionTimeoutMS=1000) as connection:
        while time.monotonic() < deadline:
            try:
                if connection.admin.command("hello").get("isWritablePrimary"):
                    return
            except PyMongoError as error:
                reason = describe(error)
            time.sleep(0.05)
    raise DbkeepError(
        f"replica set {settings.replica_set} elected no primary in {ELECTION_SECONDS} s: {reason}; "
        "check that most members run and reach each other"
    )


def set_later_term(settings: MongoDBSettings, keyfile: Path | None) -> None:
    """Give a new replica set a term later than any that a set before it had; the next start of its server takes it.

    Drivers that knew the set before take a primary of an earlier term for a stale one, and refuse it for as long as
    they run (MongoDB specifications, "Server Discovery And Monitoring", section "Check if stale primary"). Terms count
    elections, so the Unix time is later than all of them. Raises DbkeepError when the server refuses it.
    """
    update = {"q": {}, "u": {"$set": {"term": Int64(time.time())}}}
    with client(settings, direct=True, **_internal_credentials(keyfile)) as connection, driver_errors(settings):
        # By a command: the driver's own updates are retryable, which those of local are not.
        reply = connection["local"].command({"update": "replset.election", "updates": [update]})
    if reply["n"] != 1:
        raise DbkeepError(f"mongod at {address(settings)}: there is no election to give a later term; try again")


def _administrator_exists(settings: MongoDBSettings) -> bool:
    with client(settings, direct=True, **administrator(settings)) as connection:
        try:
            connection.admin.command("connectionStatus")
        except OperationFailure as error:
            if error.code not in LOGON_REFUSED:
                raise DbkeepError(f"mongod at {address(settings)}: {describe(error)}") from None
            return False
    return True


def _internal_credentials(keyfile: Path | None) -> dict[str, Any]:
    if keyfile is None:
        return {}
    try:
        key = "".join(keyfile.read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{keyfile}: cannot be read: {error}; run playbooks/site.yml") from None
    return {"username": "__system", "password": key, "authSource": "local", "authMechanism": "SCRAM-SHA-256"}


def _server_in_set(settings: MongoDBSettings, members: Sequence[str]) -> tuple[MongoDBSettings, Document]:
    """Return a server to act through, and what it says of itself: one that is in the set, else the local one.

    A new host may come first in the inventory. Were it to initiate a set of its own, two sets would take writes.
    """
    local = hello(settings)
    if local is None:
        raise UsageError(f"mongod at {address(settings)} does not answer; check that it runs")
    candidates = [(settings, local)]
    if not local.get("setName"):
        others = (of_member(settings, member) for member in members if not member.startswith("/"))
        candidates += [(other, answer) for other in others if (answer := hello(other, NEIGHBOUR_MS))]
    server, answer = next((found for found in candidates if found[1].get("setName")), candidates[0])
    found, wanted = answer.get("setName", settings.replica_set), settings.replica_set
    if found != wanted:
        raise UsageError(f"mongod at {address(server)} is a member of replica set {found}, not of {wanted}")
    return server, answer


def _initiate(name: str, members: Sequence[str]) -> Change:
    config = {"_id": name, "members": [{"_id": i, "host": host} for i, host in enumerate(members)]}

    def operation(settings: MongoDBSettings, credentials: Mapping[str, Any]) -> None:
        with client(settings, direct=True, **credentials) as connection:
            connection.admin.command("replSetInitiate", config)
        wait_for_primary(settings)

    return Change(
        engine=ENGINE,
        kind="replica set",
        target=name,
        summary=f"initiate the replica set of {', '.join(members)}",
        statement=f"replSetInitiate {config}",
        operation=operation,
        after=list(members),
    )


def _create_administrator(name: str) -> Change:
    def operation(settings: MongoDBSettings, credentials: Mapping[str, Any]) -> None:
        with client(settings, **credentials) as connection:
            connection["$external"].command("createUser", name, roles=ADMINISTRATOR_ROLES)

    return Change(
        engine=ENGINE,
        kind="administrator",
        target=name,
        summary=f"create the host administrator {name}, who logs on by client certificate",
        statement=f"createUser {name} in $external with roles {ADMINISTRATOR_ROLES}",
        operation=operation,
        after=ADMINISTRATOR_ROLES,
    )
