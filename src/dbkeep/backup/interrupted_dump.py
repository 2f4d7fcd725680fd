"""What interrupts a dump of MongoDB and goes by: the same dump at a new cluster time can be good."""

from __future__ import annotations

from bson import Timestamp
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from dbkeep.backup.archive_format import Collection
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import Client

# Codes of MongoDB's src/mongo/base/error_codes.yml.
_SHAPE_CHANGED = {26: "NamespaceNotFound", 175: "QueryPlanKilled", 246: "SnapshotUnavailable"}
_PRIMARY_GONE = {
    43: "CursorNotFound",
    91: "ShutdownInProgress",
    189: "PrimarySteppedDown",
    10107: "NotWritablePrimary",
    11600: "InterruptedAtShutdown",
    11602: "InterruptedDueToReplStateChange",
    13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
}


class CollectionGoneError(DbkeepError):
    """A collection was dropped, renamed, made anew or changed its shape while it was dumped."""


def require_there(client: Client, collection: Collection) -> None:
    """Raise CollectionGoneError when a collection is not the one that was listed.

    Servers before 7.0 answer a snapshot read of a collection that is gone with no documents and no error.
    """
    for found in client[collection.database].list_collections(filter={"name": collection.name}):
        uuid = found.get("info", {}).get("uuid")
        if uuid is not None and bytes(uuid).hex() == collection.uuid:
            return
    raise CollectionGoneError(f"{collection.database}.{collection.name} was dropped or renamed")


def require_same_shape(client: Client, database: str, since: Timestamp) -> None:
    """Raise CollectionGoneError when collections, indexes or views changed after the cluster time `since`.

    Their lists are of the present, not of a snapshot; a log that is replayed must find what was there at `since`.
    """
    changes = [
        {"op": "c", "ns": f"{database}.$cmd"},
        {"ns": f"{database}.system.views"},
        {"o.applyOps.ns": f"{database}.$cmd"},
    ]
    if client.local["oplog.rs"].find_one({"ts": {"$gt": since}, "$or": changes}):
        raise CollectionGoneError(f"the shape of {database} changed")


def passing_reason(error: PyMongoError | DbkeepError) -> str | None:
    """Return in a few words what interrupted the dump when a new one may do better, else None."""
    if isinstance(error, CollectionGoneError):
        return str(error)
    # A primary that goes says so by a code, or closes the connection.
    if isinstance(error, ConnectionFailure):
        return "the primary went away"
    if not isinstance(error, OperationFailure):
        return None
    if error.code in _PRIMARY_GONE:
        return f"the primary went away ({_PRIMARY_GONE[error.code]})"
    if error.code in _SHAPE_CHANGED:
        return f"a collection changed its shape ({_SHAPE_CHANGED[error.code]})"
    return None
