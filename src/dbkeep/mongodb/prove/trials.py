"""How each action is tried: by a command that, when it is allowed, finds nothing to do or is refused otherwise.

What it names is not there: a document, an index, a user, a role, the UUID of a collection. A server that does not know
a field of a command refuses the command. Where there is no such form, an action is tried only where the server says
that it is not granted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bson import Binary, ObjectId

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.prove.privileges import ADMINISTRATION, Target

NOBODY = "dbkeep_absent"
NOTHING = {"_id": ObjectId("0" * 24)}
OTHER_UUID = Binary(bytes(6) + b"\x40" + bytes(1) + b"\x80" + bytes(7), 4)
NO_SUCH = {"$dbkeep": 1}
EVERYBODY = {"allUsers": True}

Command = Callable[[Target], Document]


@dataclass(frozen=True, slots=True)
class Trial:
    """`needs` are actions that the command takes besides. A harmless one does nothing even where it is allowed."""

    action: str
    command: Command
    needs: frozenset[str] = frozenset()
    harmless: bool = True
    on_administration: bool = False

    def database(self, target: Target) -> str:
        """Return the database that the command is sent to."""
        return ADMINISTRATION if self.on_administration or target.is_cluster else target.database


def trials(target: Target) -> tuple[Trial, ...]:
    """Return the trials of everything that can be done with a collection, a database, or the cluster."""
    if target.is_cluster:
        return CLUSTER
    return COLLECTION if target.collection else DATABASE


def _pipeline(*stages: Document) -> Command:
    return lambda target: {"aggregate": target.collection or 1, "pipeline": list(stages), "cursor": {}}


def _guarded(name: str, **options: object) -> Command:
    """A command about a collection that has another UUID."""
    return lambda target: {name: target.collection, **options, "collectionUUID": OTHER_UUID}


def _about(name: str, **options: object) -> Command:
    return lambda target: {name: target.collection, **options}


def _bare(name: str, value: object = 1, **options: object) -> Command:
    return lambda _: {name: value, **options}


def _rename(target: Target) -> Document:
    names = {"renameCollection": str(target), "to": f"{target.database}.{NOBODY}"}
    return {**names, "collectionUUID": OTHER_UUID}


FIND = frozenset({"find"})
INSERT = frozenset({"insert"})
ONE_UPDATE = [{"q": NOTHING, "u": {"$set": {"dbkeep": 1}}}]

COLLECTION = (
    Trial("find", _about("find", filter=NOTHING, limit=1)),
    Trial("insert", _guarded("insert", documents=[{"dbkeep": 1}])),
    Trial("update", _guarded("update", updates=ONE_UPDATE)),
    Trial("remove", _guarded("delete", deletes=[{"q": NOTHING, "limit": 1}])),
    Trial(
        "bypassDocumentValidation",
        _guarded("insert", documents=[{"dbkeep": 1}], bypassDocumentValidation=True),
        needs=INSERT,
    ),
    Trial("changeStream", _pipeline({"$changeStream": {}}), needs=FIND),
    Trial("listIndexes", _about("listIndexes")),
    Trial("createIndex", _guarded("createIndexes", indexes=[{"key": {NOBODY: 1}, "name": NOBODY}])),
    Trial("dropIndex", _guarded("dropIndexes", index=NOBODY)),
    Trial("collMod", _guarded("collMod")),
    # A view, because who may insert may make a collection by that; and one that cannot be.
    Trial("createCollection", _about("create", viewOn=NOBODY, validator=NO_SUCH)),
    Trial("dropCollection", _guarded("drop")),
    Trial("renameCollectionSameDB", _rename, on_administration=True),
    Trial("convertToCapped", _about("convertToCapped", size=-1)),
    Trial("collStats", _about("collStats")),
    Trial("indexStats", _pipeline({"$indexStats": {}})),
    Trial("planCacheRead", _pipeline({"$planCacheStats": {}})),
    Trial("planCacheWrite", _about("planCacheClear", query={NOBODY: 1})),
    Trial("validate", _about("validate", full=True, background=True)),
    Trial("compact", _about("compact"), harmless=False),
    Trial("reIndex", _about("reIndex"), harmless=False),
)

DATABASE = (
    Trial("listCollections", _bare("listCollections", nameOnly=True)),
    Trial("dbStats", _bare("dbStats")),
    Trial("dbHash", _bare("dbHash", collections=[NOBODY])),
    Trial("enableProfiler", _bare("profile", 0, slowms=100), harmless=False),
    Trial("dropDatabase", _bare("dropDatabase", 2), harmless=False),
    Trial("createUser", _bare("createUser", NOBODY, pwd=NOBODY, roles=[], mechanisms=["NONE"])),
    Trial("dropUser", _bare("dropUser", NOBODY)),
    Trial("changePassword", _bare("updateUser", NOBODY, pwd=NOBODY)),
    Trial("changeCustomData", _bare("updateUser", NOBODY, customData={NOBODY: 1})),
    Trial("grantRole", _bare("grantRolesToUser", NOBODY, roles=["read"])),
    Trial("revokeRole", _bare("revokeRolesFromUser", NOBODY, roles=["read"])),
    Trial("createRole", _bare("createRole", NOBODY, privileges=[], roles=[NOBODY]), needs=frozenset({"grantRole"})),
    Trial("dropRole", _bare("dropRole", NOBODY)),
    Trial("viewUser", _bare("usersInfo")),
    Trial("viewRole", _bare("rolesInfo")),
)

CLUSTER = (
    Trial("listDatabases", lambda _: {"listDatabases": 1, "nameOnly": True, "authorizedDatabases": False}),
    Trial("serverStatus", _bare("serverStatus")),
    Trial("getParameter", _bare("getParameter", logLevel=1)),
    Trial("setParameter", _bare("setParameter", dbkeepAbsent=1)),
    Trial("getCmdLineOpts", _bare("getCmdLineOpts")),
    Trial("getLog", _bare("getLog", "startupWarnings")),
    Trial("hostInfo", _bare("hostInfo")),
    Trial("inprog", _pipeline({"$currentOp": EVERYBODY})),
    Trial("killop", _bare("killOp", op=-1), harmless=False),
    Trial("killAnySession", _bare("killAllSessions", [{"user": NOBODY, "db": NOBODY}])),
    Trial("listSessions", _pipeline({"$listLocalSessions": EVERYBODY})),
    Trial("top", _bare("top")),
    Trial("connPoolStats", _bare("connPoolStats")),
    Trial("fsync", _bare("fsync"), harmless=False),
    Trial("unlock", _bare("fsyncUnlock"), harmless=False),
    Trial("shutdown", _bare("shutdown"), harmless=False),
    Trial("logRotate", _bare("logRotate", NOBODY), harmless=False),
    Trial("applyOps", _bare("applyOps", [{"op": "n", "ns": "", "o": {}}]), harmless=False),
    Trial("invalidateUserCache", _bare("invalidateUserCache"), harmless=False),
    Trial("replSetGetStatus", _bare("replSetGetStatus")),
    Trial("replSetGetConfig", _bare("replSetGetConfig")),
    Trial("replSetConfigure", _bare("replSetReconfig", {}), harmless=False),
    Trial("replSetStateChange", _bare("replSetStepDown", 1), harmless=False),
    Trial("replSetResizeOplog", _bare("replSetResizeOplog", size=990.0), harmless=False),
    Trial("setFeatureCompatibilityVersion", _bare("setFeatureCompatibilityVersion", "1.0"), harmless=False),
    Trial("setDefaultRWConcern", _bare("setDefaultRWConcern"), harmless=False),
    Trial("getDefaultRWConcern", _bare("getDefaultRWConcern")),
    Trial("getClusterParameter", _bare("getClusterParameter", "*")),
    Trial("setClusterParameter", _bare("setClusterParameter", {NOBODY: {}}), harmless=False),
    Trial("dropConnections", _bare("dropConnections", hostAndPort=["192.0.2.1:1"]), harmless=False),
    Trial("rotateCertificates", _bare("rotateCertificates"), harmless=False),
)
