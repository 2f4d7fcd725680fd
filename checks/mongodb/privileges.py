"""Does every user of MongoDB hold no more than it needs?"""

from typing import Any
from uuid import uuid4

from bson import Binary, ObjectId
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from dbkeep.checks.access import Access
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

APPLY = "run `dbkeep drift mongodb`, then `dbkeep apply mongodb --allow-destructive`; roles are in mongo/roles.yml"
UNAUTHORIZED = 13
BROAD = (
    "root",
    "__system",
    "dbOwner",
    "dbAdmin",
    "readWrite",
    "userAdmin",
    "clusterAdmin",
    "restore",
    "readAnyDatabase",
    "readWriteAnyDatabase",
    "userAdminAnyDatabase",
    "dbAdminAnyDatabase",
)


@control(
    "MG-RBAC-01",
    "No user with a password holds a built-in role that reaches beyond its collections",
    severity="critical",
    sources=("CIS MongoDB 7 3.1", "STIG SV-252150"),
    fix=APPLY,
)
def test_no_broad_role(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    users = {user["name"]: user["roles"] for user in mongodb_facts["users"] if user["database"] != "$external"}
    observe(**users)
    assert users, "there is no user with a password"
    broad = [f"{user} ({role})" for user, roles in users.items() for role in roles if role.partition("@")[0] in BROAD]
    assert not broad, f"too broad: {', '.join(broad)}"


@control(
    "MG-RBAC-03",
    "No custom role may do anything anywhere, skip validation or administer users",
    severity="critical",
    sources=("STIG SV-252151", "MongoDB manual: Privilege Actions"),
    fix=APPLY,
)
def test_no_dangerous_action(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    dangerous = {
        "anyAction",
        "bypassDocumentValidation",
        "applyOps",
        "createUser",
        "grantRole",
        "createRole",
        "internal",
    }
    roles = mongodb_facts["roles"]
    actions = {
        role["name"]: {action for entry in role["inherited_privileges"] for action in entry["actions"]}
        for role in roles
    }
    observe(**{name: sorted(held) for name, held in actions.items()})
    assert roles, "there is no custom role"
    wrong = [f"{name}: {', '.join(sorted(held & dangerous))}" for name, held in actions.items() if held & dangerous]
    wrong += [
        f"{role['name']}: {', '.join(entry['actions'])} on any resource"
        for role in roles
        for entry in role["privileges"]
        if entry["resource"] == "any resource"
    ]
    assert not wrong, "; ".join(wrong)


# Each command does nothing when it is allowed: it names a document, an index or a collection UUID that does not exist.
NOTHING = {"_id": ObjectId("000000000000000000000000")}
COMMANDS: dict[str, dict[str, Any]] = {
    "find": {"find": "messages", "filter": NOTHING},
    "update": {"update": "messages", "updates": [{"q": NOTHING, "u": {"$set": {"content": "probe"}}}]},
    "remove": {"delete": "messages", "deletes": [{"q": NOTHING, "limit": 1}]},
    "drop": {"drop": "messages", "collectionUUID": Binary.from_uuid(uuid4())},
    "collMod": {"collMod": "messages"},
    "createIndex": {"createIndexes": "messages", "indexes": [{"key": {"_id": 1}, "name": "_id_"}]},
    "dropIndex": {"dropIndexes": "messages", "index": "dbkeep_probe"},
    "write elsewhere": {"update": "dbkeep_probe", "updates": [{"q": NOTHING, "u": {"$set": {"probe": 1}}}]},
    "read users": {"usersInfo": 1},
    "read passwords": {"find": "system.users", "filter": NOTHING},
    "read options": {"getCmdLineOpts": 1},
    "read logs": {"getLog": "global"},
    "change parameters": {"setParameter": 1, "logLevel": 0},
}
ON_ADMIN = ("read passwords", "read options", "read logs", "change parameters")
ALLOWED = {
    "chat_api": {"find", "update"},
    "chat_notifier": {"find"},
    "chat_retention": {"find", "remove"},
    "chat_analytics": set[str](),
    "chat_migrator": {"collMod", "createIndex", "dropIndex"},
    "chat_backup": {"find", "read passwords"},
    "chat_monitor": {"read options", "read logs"},
    "chat_audit": {"read users", "read options"},
}


def try_commands(client: MongoClient[dict[str, Any]]) -> dict[str, str]:
    """Try every command and return "allowed" or the code it was refused with."""
    answers = {}
    for name, command in COMMANDS.items():
        try:
            client["admin" if name in ON_ADMIN else "chat"].command(command)
            answers[name] = "allowed"
        except OperationFailure as error:
            # Any other code means that it got past authorization and found nothing to do.
            answers[name] = "denied" if error.code == UNAUTHORIZED else f"allowed (code {error.code})"
    return answers


@control(
    "MG-RBAC-04",
    "Every service may do on messages what it needs and nothing else, tried by attempt",
    severity="critical",
    sources=("CIS MongoDB 7 3.4", "dbkeep design: custom roles at collection level"),
    fix=APPLY,
)
def test_matrix_by_attempt(access: Access, mongodb_primary: Host, observe: Observe) -> None:
    wrong = []
    for user, allowed in ALLOWED.items():
        with access.mongodb(mongodb_primary, user) as client:
            answers = try_commands(client)
        observe(**{user: answers})
        surplus = [name for name, answer in answers.items() if answer != "denied" and name not in allowed]
        lacking = [name for name in allowed if answers[name] == "denied"]
        wrong += [f"{user} may {', '.join(surplus)}"] if surplus else []
        wrong += [f"{user} may not {', '.join(lacking)}"] if lacking else []
    assert not wrong, "; ".join(wrong)
