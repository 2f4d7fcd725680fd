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

from cryptography import x509
from pymongo.errors import OperationFailure, PyMongoError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import (
    LOGON_REFUSED,
    Client,
    Document,
    address,
    administrator,
    client,
    describe,
    driver_errors,
)
from dbkeep.mongodb.statements import ENGINE
from dbkeep.plan import Change, Plan, Risk
from dbkeep.plan import apply as apply_plan
from dbkeep.settings import MongoDBSettings

ELECTION_SECONDS = 30
RECONFIGURATION_SECONDS = 60
# ConfigurationInProgress, NewReplicaSetConfigurationIncompatible (another version came first),
# CurrentConfigNotCommittedYet.
BUSY_RECONFIGURING = frozenset({109, 103, 308})
ADMINISTRATOR_ROLES = [{"role": "root", "db": "admin"}]


def plan(settings: MongoDBSettings, members: Sequence[str]) -> Plan:
    """Return what is missing until `members` ("host:port" each) are one replica set with an administrator.

    Raises UsageError when the local server does not answer or belongs to another replica set.
    """
    name = settings.replica_set
    answer = hello(settings)
    if answer is None:
        raise UsageError(f"mongod at {address(settings)} does not answer; check that it runs")
    changes = []
    if not answer.get("setName"):
        changes.append(_initiate(settings, members))
    elif answer["setName"] != name:
        raise UsageError(f"mongod at {address(settings)} is a member of {answer['setName']}, not of {name}")
    else:
        present = [*answer.get("hosts", []), *answer.get("passives", []), *answer.get("arbiters", [])]
        changes += [_change_member(name, host, "add") for host in members if host not in present]
        changes += [_change_member(name, host, "remove") for host in present if host not in members]
    if settings.certificate_key_file and not _administrator_exists(settings):
        changes.append(_create_administrator(subject(settings.certificate_key_file)))
    return Plan(ENGINE, tuple(changes))


def apply(
    settings: MongoDBSettings,
    members: Sequence[str],
    keyfile: Path | None,
    *,
    allow_destructive: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Make it so and return the changes made. Without `keyfile` the server runs without access control (a sandbox).

    Raises ApplyError at the first change that fails.
    """
    credentials = _internal_credentials(keyfile)

    def execute(change: Change) -> None:
        with driver_errors(settings):
            change.operation(settings, credentials)

    return apply_plan(plan(settings, members), execute, allow_destructive=allow_destructive, on_change=on_change)


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


def hello(settings: MongoDBSettings, milliseconds: int = 5000) -> Document | None:
    """Return what one server says of itself, or None when it does not answer in time. Needs no logon."""
    with client(settings, direct=True, serverSelectionTimeoutMS=milliseconds) as connection:
        try:
            return connection.admin.command("hello")
        except PyMongoError:
            return None


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


def _initiate(settings: MongoDBSettings, members: Sequence[str]) -> Change:
    _refuse_second_set(settings, members)
    config = {"_id": settings.replica_set, "members": [{"_id": i, "host": host} for i, host in enumerate(members)]}

    def operation(settings: MongoDBSettings, credentials: Mapping[str, Any]) -> None:
        with client(settings, direct=True, **credentials) as connection:
            connection.admin.command("replSetInitiate", config)
        wait_for_primary(settings)

    return Change(
        engine=ENGINE,
        kind="replica set",
        target=settings.replica_set,
        summary=f"initiate the replica set of {', '.join(members)}",
        statement=f"replSetInitiate {config}",
        operation=operation,
        after=list(members),
    )


def _refuse_second_set(settings: MongoDBSettings, members: Sequence[str]) -> None:
    """Two sets of one name would each take writes: a new host joins from a member that is already in the set."""
    for member in members:
        host, _, port = member.rpartition(":")
        if member.startswith("/") or (host, port) == (settings.host, str(settings.port)):
            continue
        answer = hello(settings.model_copy(update={"host": host, "port": int(port)}), 2000)
        if answer and answer.get("setName"):
            raise UsageError(
                f"{member} is already a member of replica set {answer['setName']}; "
                "run the play for that host, which adds this one"
            )


def _change_member(name: str, host: str, verb: str) -> Change:
    def operation(settings: MongoDBSettings, credentials: Mapping[str, Any]) -> None:
        wait_for_primary(settings)
        with client(settings, **credentials) as connection:
            _reconfigure(connection, host, verb)

    return Change(
        engine=ENGINE,
        kind="replica set member",
        target=host,
        summary=f"{verb} member {host} {'to' if verb == 'add' else 'from'} replica set {name}",
        statement=f"replSetReconfig ({verb} {host})",
        operation=operation,
        before=None if verb == "add" else host,
        after=host if verb == "add" else None,
        risk=Risk.SAFE if verb == "add" else Risk.DESTRUCTIVE,
    )


def _reconfigure(connection: Client, host: str, verb: str) -> None:
    """Add or remove one member: the server allows one change of the voting members at a time.

    A member that is added votes only once it has a copy of the data; the server makes it a voter by a reconfiguration
    of its own, which a second change has to wait for (MongoDB manual, "replSetReconfig").
    """
    deadline = time.monotonic() + RECONFIGURATION_SECONDS
    while True:
        config = connection.admin.command("replSetGetConfig")["config"]
        if verb == "add":
            number = 1 + max(member["_id"] for member in config["members"])
            config["members"].append({"_id": number, "host": host})
        else:
            config["members"] = [member for member in config["members"] if member["host"] != host]
        config["version"] += 1
        try:
            connection.admin.command("replSetReconfig", config)
            return
        except OperationFailure as error:
            if error.code not in BUSY_RECONFIGURING or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


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
