"""What MongoDB holds now, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import OperationFailure

from dbkeep.mongodb.connect import LOGON_REFUSED, Client, Document, client
from dbkeep.settings import MongoDBSettings

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class LiveCollection:
    """A collection, view or time series of the database. `indexes` are as listIndexes gives them, by name."""

    name: str
    type: str
    options: Document
    indexes: dict[str, Document] = field(default_factory=dict)
    empty: bool = True


@dataclass(frozen=True, slots=True)
class LiveRole:
    database: str
    name: str
    privileges: list[Document]
    roles: list[Document]


@dataclass(frozen=True, slots=True)
class LiveUser:
    database: str
    name: str
    roles: list[Document]
    mechanisms: list[str]


@dataclass(frozen=True, slots=True)
class Live:
    """`collections` are those of the managed database; roles and users those of the whole server, by (database, name).

    The account that asks is left out of `users`: it administers the host and is not the declared state's to change.
    `passwords` are the users whose declared password the server accepts.
    """

    collections: dict[str, LiveCollection]
    roles: dict[tuple[str, str], LiveRole]
    users: dict[tuple[str, str], LiveUser]
    passwords: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Violations:
    """Documents that a validator would refuse: how many, and the _id of a few."""

    count: int
    examples: tuple[str, ...]


def inspect(connection: Client, settings: MongoDBSettings, secrets: Mapping[str, str]) -> Live:
    """Return what the server holds and which of `secrets` (user: password) it accepts."""
    users = _users(connection)
    known = {name for database, name in users if database == "admin"}
    return Live(
        collections=_collections(connection, settings.database),
        roles=_roles(connection),
        users=users,
        passwords=frozenset(
            user for user, password in secrets.items() if user in known and accepts(settings, user, password)
        ),
    )


def accepts(settings: MongoDBSettings, user: str, password: str) -> bool:
    """Return whether a logon as `user` succeeds. A logon is the only way the server compares a password."""
    credentials = {"username": user, "password": password, "authSource": "admin", "authMechanism": "SCRAM-SHA-256"}
    with client(settings, direct=True, **credentials) as attempt:
        try:
            attempt.admin.command("ping")
        except OperationFailure as error:
            if error.code in LOGON_REFUSED:
                return False
            raise
    return True


def violations(connection: Client, database: str, collection: str, validator: Document) -> Violations:
    """Return which documents `validator` would refuse, found by the server."""
    refused = {"$nor": [validator]}
    documents = connection[database][collection]
    found = documents.count_documents(refused)
    examples = documents.find(refused, {"_id": 1}).limit(EXAMPLES) if found else ()
    return Violations(found, tuple(str(document["_id"]) for document in examples))


def holds_expired(connection: Client, database: str, collection: str, path: str, seconds: int) -> bool:
    """Return whether a TTL index on `path` would remove documents at once."""
    limit = datetime.now(UTC) - timedelta(seconds=seconds)
    return connection[database][collection].find_one({path: {"$lt": limit}}, {"_id": 1}) is not None


def counts(connection: Client, database: str) -> dict[str, int]:
    """Return the number of documents of every collection, by namespace ("chat.messages")."""
    return {
        f"{database}.{name}": connection[database][name].count_documents({})
        for name in sorted(connection[database].list_collection_names(filter={"type": "collection"}))
        if not name.startswith("system.")
    }


def _collections(connection: Client, database: str) -> dict[str, LiveCollection]:
    found = {}
    for entry in connection[database].list_collections():
        name = entry["name"]
        if name.startswith("system."):
            continue
        indexes: dict[str, Any] = {}
        empty = True
        if entry["type"] == "collection":
            indexes = {index["name"]: dict(index) for index in connection[database][name].list_indexes()}
            empty = connection[database][name].find_one({}, {"_id": 1}) is None
        found[name] = LiveCollection(name, entry["type"], entry["options"], indexes, empty)
    return found


def _roles(connection: Client) -> dict[tuple[str, str], LiveRole]:
    return {
        (role["db"], role["role"]): LiveRole(role["db"], role["role"], role["privileges"], role["roles"])
        for role in connection.admin["system.roles"].find()
    }


def _users(connection: Client) -> dict[tuple[str, str], LiveUser]:
    status = connection.admin.command("connectionStatus")["authInfo"]
    own = {(user["db"], user["user"]) for user in status["authenticatedUsers"]}
    return {
        (user["db"], user["user"]): LiveUser(user["db"], user["user"], user["roles"], user.get("mechanisms", []))
        for user in connection.admin.command("usersInfo", {"forAllDBs": True})["users"]
        if (user["db"], user["user"]) not in own
    }
