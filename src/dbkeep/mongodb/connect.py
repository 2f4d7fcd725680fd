"""Connections to mongod, and its driver's errors as lines a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.settings import MongoDBSettings

Document = dict[str, Any]
Client = MongoClient[Document]

OLDEST_VERSION = (6, 0)
TIMEOUT_MS = 5000
HERE_MS = 1000
LOGON_REFUSED = frozenset({11, 18})  # UserNotFound (X.509 on 6.0), AuthenticationFailed


def address(settings: MongoDBSettings) -> str:
    """Return the server as messages name it: host:port, or the path of its socket."""
    return settings.host if settings.host.startswith("/") else f"{settings.host}:{settings.port}"


def of_member(settings: MongoDBSettings, member: str) -> MongoDBSettings:
    """Return the settings with another member ("host:port") in place of the server here."""
    host, _, port = member.rpartition(":")
    return settings.model_copy(update={"host": host, "port": int(port)})


def client(settings: MongoDBSettings, *, direct: bool = False, **options: Any) -> Client:
    """Return a client that has not connected yet.

    `direct` talks to this one server whatever its state; otherwise the client finds the primary of the replica set
    through whichever member answers.
    `options` are MongoClient keywords, the credentials among them; they go before what is chosen here.

    Raises UsageError when a file of the connection cannot be used.
    """
    if settings.ca_file:
        options = {"tls": True, "tlsCAFile": str(settings.ca_file)} | options
    direct = direct or settings.host.startswith("/")  # the driver cannot follow a member list of socket paths
    servers = [address(settings)]
    if not direct:
        options["replicaSet"] = settings.replica_set
        servers = _ways_in(settings)
    try:
        return MongoClient(
            f"mongodb://{','.join(quote_plus(server, safe=':[]') for server in servers)}/",
            directConnection=direct,
            appname="dbkeep",
            serverMonitoringMode="poll",
            serverSelectionTimeoutMS=options.pop("serverSelectionTimeoutMS", TIMEOUT_MS),
            connectTimeoutMS=TIMEOUT_MS,
            **options,
        )
    except (OSError, ConfigurationError) as error:
        files = " and ".join(str(options[name]) for name in ("tlsCAFile", "tlsCertificateKeyFile") if name in options)
        raise UsageError(f"{files}: cannot be used: {error}; run playbooks/site.yml") from None


def _ways_in(settings: MongoDBSettings) -> list[str]:
    """Return the servers to ask for the primary: the one here, unless it is down or in no set yet.

    Of the others one might be in another set of the same name, which its driver would take for ours.
    """
    here = [address(settings)]
    if not settings.members or (hello(settings, HERE_MS) or {}).get("setName"):
        return here
    return [*settings.members]


def hello(settings: MongoDBSettings, milliseconds: int = 5000) -> Document | None:
    """Return what one server says of itself, or None when it does not answer in time. Needs no logon."""
    with client(settings, direct=True, serverSelectionTimeoutMS=milliseconds) as connection:
        try:
            return connection.admin.command("hello")
        except PyMongoError:
            return None


def administrator(settings: MongoDBSettings) -> dict[str, Any]:
    """Return the MongoClient keywords that log on as the host administrator: X.509, or nothing in a sandbox."""
    if settings.certificate_key_file is None:
        return {}
    return {"authMechanism": "MONGODB-X509", "tlsCertificateKeyFile": str(settings.certificate_key_file)}


@contextmanager
def connect(settings: MongoDBSettings, *, direct: bool = False) -> Iterator[Client]:
    """Yield a client of the replica set's primary, or with `direct` of the server here, as the host administrator.

    Raises UsageError when no usable server answers, DbkeepError when the server refuses a command in the block.
    """
    with driver_errors(settings), client(settings, direct=direct, **administrator(settings)) as connection:
        try:
            version = connection.admin.command("buildInfo")["versionArray"]
            connection.admin.command("usersInfo", 1)
        except PyMongoError as error:
            raise UsageError(f"mongod at {address(settings)}: {describe(error)}; {_next_step(error)}") from None
        if tuple(version[:2]) < OLDEST_VERSION:
            found = f"{version[0]}.{version[1]}"
            raise UsageError(
                f"mongod at {address(settings)}: version {found} is not supported; upgrade to 6.0 or newer"
            )
        yield connection


@contextmanager
def driver_errors(settings: MongoDBSettings) -> Iterator[None]:
    """Turn what the driver raises in the block into DbkeepError."""
    try:
        yield
    except PyMongoError as error:
        raise DbkeepError(f"mongod at {address(settings)}: {describe(error)}") from error


def describe(error: PyMongoError) -> str:
    """Return a driver error as one line without topology dumps."""
    if isinstance(error, OperationFailure):
        name = (error.details or {}).get("codeName", "error")
        message = " ".join(str((error.details or {}).get("errmsg", error)).split())
        return f"{message} ({name}, code {error.code})"
    text = str(error)
    for noise in (" (configured timeouts", ", Timeout:", ", full error:"):
        text = text.partition(noise)[0]
    return text.replace("\n", " ")


def _next_step(error: PyMongoError) -> str:
    if isinstance(error, OperationFailure) and error.code in LOGON_REFUSED:
        return "the host administrator is missing or was made for another certificate; run playbooks/site.yml"
    if isinstance(error, OperationFailure):
        return "log on as the host administrator (agent.d/mongodb.json)"
    if isinstance(error, ConfigurationError):
        return "it is not a member of the replica set of agent.d/mongodb.json; run playbooks/site.yml"
    if isinstance(error, ServerSelectionTimeoutError):
        return "check that mongod runs, is a member of the replica set and that the set has a primary"
    return "check that mongod runs"
