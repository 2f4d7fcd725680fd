"""What MongoDB holds now, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo.errors import ConnectionFailure, OperationFailure

from dbkeep.mongodb.connect import Client, Document, administrator, client, of_member
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.passwords import accepts, is_stored
from dbkeep.mongodb.statements import FULL_MEMBER
from dbkeep.settings import MongoDBSettings

# The server's own collections, which it makes and needs; every other system.* is somebody's doing.
SERVERS_OWN = ("system.views", "system.buckets.")

QUESTIONS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class LiveCollection:
    """A collection, view or time series of the database.

    `indexes` are as listIndexes gives them, by name; `hidden_since` says of each hidden one since when, as far as the
    server remembers (a restart forgets).
    """

    name: str
    type: str
    options: Document
    indexes: dict[str, Document] = field(default_factory=dict)
    empty: bool = True
    hidden_since: dict[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveRole:
    database: str
    name: str
    privileges: list[Document]
    roles: list[Document]
    restrictions: list[Document] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LiveUser:
    """`iterations` is what the stored password of SCRAM-SHA-256 costs to try; 0 for a user without one."""

    database: str
    name: str
    roles: list[Document]
    mechanisms: list[str]
    restrictions: list[Document] = field(default_factory=list)
    custom_data: Document = field(default_factory=dict)
    iterations: int = 0


@dataclass(frozen=True, slots=True)
class LiveMigration:
    """An applied migration; `back` says that somebody began to take it back."""

    digest: str
    applied_at: datetime
    back: bool = False


@dataclass(frozen=True, slots=True)
class LiveParameter:
    value: Any
    settable: bool = True


@dataclass(frozen=True, slots=True)
class LiveMember:
    """A member of the replica set ("host:port") as its configuration has it, and whether the primary hears of it."""

    host: str
    options: Document
    arbiter: bool = False
    answers: bool = True


@dataclass(frozen=True, slots=True)
class Live:
    """`collections` are those of the managed database; roles and users those of the whole server, by (database, name).

    The account that asks is left out of `users`: it administers the host and is not the declared state's to change.
    `passwords` are the users whose declared password the server accepts. `parameters` are by member ("host:port") and
    name: every member has its own. `members` are those of the replica set.
    """

    collections: dict[str, LiveCollection]
    roles: dict[tuple[str, str], LiveRole]
    users: dict[tuple[str, str], LiveUser]
    passwords: frozenset[str] = frozenset()
    parameters: dict[str, dict[str, LiveParameter]] = field(default_factory=dict)
    profiling_level: int = 0
    migrations: dict[str, LiveMigration] = field(default_factory=dict)
    members: tuple[LiveMember, ...] = ()


def inspect(
    connection: Client, settings: MongoDBSettings, secrets: Mapping[str, str], parameters: Sequence[str]
) -> Live:
    """Return what the server holds and which of `secrets` (user: password) it accepts."""
    users = _users(connection)
    known = [user for database, user in users if database == "admin" and user in secrets]
    # A secondary may not have heard of a new password yet.
    primary = settings if settings.host.startswith("/") else of_member(settings, _name(connection))

    def has_its_password(user: str) -> bool:
        if users["admin", user].restrictions:
            return is_stored(connection, user, secrets[user])
        return accepts(primary, user, secrets[user])

    # A plan mostly waits for answers.
    with ThreadPoolExecutor(QUESTIONS_AT_ONCE) as threads:
        answers = threads.map(has_its_password, known)
        found = collections(connection, settings.database)
        passwords = frozenset(user for user, answer in zip(known, answers, strict=True) if answer)
    return Live(
        collections=found,
        roles=_roles(connection),
        users=users,
        passwords=passwords,
        parameters=_parameters(connection, settings, parameters),
        profiling_level=int(connection[settings.database].command("profile", -1)["was"]),
        migrations=migrations(connection, settings.database),
        members=_members(connection),
    )


def _name(connection: Client) -> str:
    """Return the primary as the replica set names it."""
    return str(connection.admin.command("hello")["me"])


def collections(connection: Client, database: str) -> dict[str, LiveCollection]:
    """Return the collections, views and time series of a database by name."""
    entries = [entry for entry in connection[database].list_collections() if not entry["name"].startswith(SERVERS_OWN)]
    with ThreadPoolExecutor(QUESTIONS_AT_ONCE) as threads:
        looked_at = threads.map(lambda entry: _collection(connection, database, entry), entries)
        return {collection.name: collection for collection in looked_at}


def migrations(connection: Client, database: str) -> dict[str, LiveMigration]:
    """Return the migrations that are applied, or were until somebody began to take them back."""
    records = connection[database][RECORDS].find({"applied_at": {"$type": "date"}})
    return {
        record["_id"]: LiveMigration(record["sha256"], record["applied_at"], bool(record.get("back")))
        for record in records
    }


def counts(connection: Client, database: str) -> dict[str, int]:
    """Return the number of documents of every collection, by namespace ("chat.messages")."""
    return {
        f"{database}.{name}": connection[database][name].count_documents({})
        for name in sorted(connection[database].list_collection_names(filter={"type": "collection"}))
        if not name.startswith("system.")
    }


def known_actions(connection: Client) -> frozenset[str]:
    """Return every action that this version of the server knows: those that its built-in roles have."""
    roles = connection.admin.command("rolesInfo", 1, showBuiltinRoles=True, showPrivileges=True)["roles"]
    return frozenset(action for role in roles for held in role["inheritedPrivileges"] for action in held["actions"])


def _collection(connection: Client, database: str, entry: Mapping[str, Any]) -> LiveCollection:
    name, kind, options = entry["name"], entry["type"], entry["options"]
    if kind != "collection":
        return LiveCollection(name, kind, options)
    documents = connection[database][name]
    indexes = {index["name"]: dict(index) for index in documents.list_indexes()}
    hidden: dict[str, datetime] = {}
    if any(index.get("hidden") for index in indexes.values()):
        hidden = {
            found["name"]: found["accesses"]["since"]
            for found in documents.aggregate([{"$indexStats": {}}])
            if found["spec"].get("hidden")
        }
    empty = documents.find_one({}, {"_id": 1}) is None
    return LiveCollection(name, kind, options, indexes, empty, hidden)


def _roles(connection: Client) -> dict[tuple[str, str], LiveRole]:
    return {
        (role["db"], role["role"]): LiveRole(
            role["db"], role["role"], role["privileges"], role["roles"], role.get("authenticationRestrictions", [])
        )
        for role in connection.admin["system.roles"].find()
    }


def _users(connection: Client) -> dict[tuple[str, str], LiveUser]:
    """usersInfo leaves out restrictions when it is asked for all users; their keys stay on the server."""
    status = connection.admin.command("connectionStatus")["authInfo"]
    own = {(user["db"], user["user"]) for user in status["authenticatedUsers"]}
    fields = ("user", "db", "roles", "customData", "authenticationRestrictions")
    wanted = [*fields, *(f"credentials.{name}.iterationCount" for name in ("SCRAM-SHA-1", "SCRAM-SHA-256"))]
    found = connection.admin["system.users"].find({}, dict.fromkeys(wanted, 1))
    return {(user["db"], user["user"]): _user(user) for user in found if (user["db"], user["user"]) not in own}


def _user(user: Document) -> LiveUser:
    credentials = user.get("credentials", {})
    return LiveUser(
        user["db"],
        user["user"],
        user["roles"],
        sorted(name for name in credentials if name.startswith("SCRAM-")),
        user.get("authenticationRestrictions", []),
        user.get("customData", {}),
        int(credentials.get("SCRAM-SHA-256", {}).get("iterationCount", 0)),
    )


def _parameters(
    connection: Client, settings: MongoDBSettings, names: Sequence[str]
) -> dict[str, dict[str, LiveParameter]]:
    hello = connection.admin.command("hello")
    found = {hello["me"]: _parameters_of(connection, names)}
    for member in hello["hosts"]:
        if member != hello["me"]:
            # A member that is down has no parameters to compare; it reads its file when it starts.
            try:
                with member_client(settings, member) as other:
                    found[member] = _parameters_of(other, names)
            except ConnectionFailure:
                continue
    return found


def member_client(settings: MongoDBSettings, member: str) -> Client:
    """Return a client of one member ("host:port") of the replica set as the host administrator."""
    return client(of_member(settings, member), direct=True, **administrator(settings))


def _members(connection: Client) -> tuple[LiveMember, ...]:
    config = connection.admin.command("replSetGetConfig")["config"]
    status = connection.admin.command("replSetGetStatus")["members"]
    answering = {member["name"] for member in status if member["health"] > 0}
    return tuple(
        LiveMember(
            member["host"],
            {name: member[name] for name in FULL_MEMBER},
            arbiter=member["arbiterOnly"],
            answers=member["host"] in answering,
        )
        for member in config["members"]
    )


def _parameters_of(connection: Client, names: Sequence[str]) -> dict[str, LiveParameter]:
    if not names:
        return {}
    try:
        answer = connection.admin.command({"getParameter": {"showDetails": True}, **dict.fromkeys(names, 1)})
    except OperationFailure as error:
        if "no option found" in str((error.details or {}).get("errmsg")):
            return {}
        raise
    return {
        name: LiveParameter(answer[name]["value"], bool(answer[name]["settableAtRuntime"]))
        for name in names
        if name in answer
    }
