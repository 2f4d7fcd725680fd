"""A mongod as it describes itself to the host administrator: options, parameters, users, roles, collections.

Commands and fields are those of the manual's "Database Commands", MongoDB 6.0 and newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient

from dbkeep.checks.facts.compliance import Compliance
from dbkeep.checks.facts.files import describe_files
from dbkeep.checks.facts.mongodb_process import describe_process
from dbkeep.checks.facts.mongodb_replica_set import describe_replica_set
from dbkeep.engines import required_settings
from dbkeep.mongodb.connect import connect
from dbkeep.settings import MongoDBSettings

PARAMETERS = (
    "authenticationMechanisms",
    "enableLocalhostAuthBypass",
    "scramSHA256IterationCount",
    "tlsMode",
    "enableTestCommands",
    "featureCompatibilityVersion",
)


def gather(request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - every observer has this shape
    settings = required_settings("mongodb")
    assert isinstance(settings, MongoDBSettings)  # noqa: S101 - the name decides the type
    compliance = Compliance()
    # What this server says, be it a secondary: it has its own options, and the set's users and collections.
    with connect(settings, direct=True) as client:
        facts = describe(client, settings.database, compliance)
    compliance.remember()
    options = facts["options"]
    places = [
        options.get("storage", {}).get("dbPath", "/var/lib/mongodb"),
        options.get("config", "/etc/mongod.conf"),
        options.get("security", {}).get("keyFile", "/etc/mongodb/keyfile"),
        options.get("net", {}).get("tls", {}).get("certificateKeyFile", "/etc/dbkeep/tls/mongodb.pem"),
    ]
    facts["files"] = describe_files(places)
    return facts


def describe(client: MongoClient[dict[str, Any]], database: str, compliance: Compliance) -> dict[str, Any]:
    """Return what a server says about itself and about the collections of `database`; `compliance` searches these."""
    admin = client.admin
    build = admin.command("buildInfo")
    profile = client[database].command("profile", -1)
    parameters = admin.command({"getParameter": "*"})  # asked by name, a version refuses those that it does not have
    return {
        "versions": {"mongodb": build["version"]},
        "version": build["versionArray"][:3],
        "modules": build["modules"],
        "options": admin.command("getCmdLineOpts")["parsed"],
        "parameters": {name: parameters[name] for name in PARAMETERS if name in parameters},
        "users": [
            _user(user) for user in admin.command("usersInfo", {"forAllDBs": True}, showPrivileges=False)["users"]
        ],
        "roles": [_role(role) for role in admin.command("rolesInfo", 1, showPrivileges=True)["roles"]],
        "databases": [entry["name"] for entry in admin.command("listDatabases", nameOnly=True)["databases"]],
        "collections": [
            _collection(client, database, info, compliance) for info in client[database].list_collections()
        ],
        "profile": {name: profile[name] for name in ("was", "slowms", "sampleRate")},
        "process": describe_process(client),
        "replica_set": describe_replica_set(client),
    }


def _user(user: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": user["user"],
        "database": user["db"],
        "roles": sorted(f"{role['role']}@{role['db']}" for role in user["roles"]),
        "mechanisms": user.get("mechanisms", []),
    }


def _role(role: dict[str, Any]) -> dict[str, Any]:
    """Return a custom role, what it holds itself and what it holds with all that it inherits."""
    return {
        "name": role["role"],
        "database": role["db"],
        "inherits": sorted(f"{inherited['role']}@{inherited['db']}" for inherited in role.get("inheritedRoles", [])),
        "privileges": _privileges(role["privileges"]),
        "inherited_privileges": _privileges(role["inheritedPrivileges"]),
    }


def _privileges(privileges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"resource": _resource(entry["resource"]), "actions": sorted(entry["actions"])} for entry in privileges]


def _resource(resource: dict[str, Any]) -> str:
    if resource.get("anyResource"):
        return "any resource"
    if resource.get("cluster"):
        return "cluster"
    return f"{resource.get('db', '')}.{resource.get('collection', '')}"


def _collection(
    client: MongoClient[dict[str, Any]], database: str, info: Mapping[str, Any], compliance: Compliance
) -> dict[str, Any]:
    """Return how a collection is guarded, and what is known of documents that break its validator."""
    options = info.get("options", {})
    validator = options.get("validator", {})
    schema = validator.get("$jsonSchema", {})
    searched = None
    if info["type"] == "collection" and validator:
        searched = compliance.search(client[database][info["name"]], info)
    return {
        "name": info["name"],
        "type": info["type"],
        # The server leaves out what is its default (manual: db.createCollection, validationLevel, validationAction).
        "level": options.get("validationLevel", "strict") if validator else None,
        "action": options.get("validationAction", "error") if validator else None,
        "closed": schema.get("additionalProperties") is False,
        "required": schema.get("required", []),
        "compliance": searched,
        "view_on": options.get("viewOn"),
    }
