"""A replica set as one of its members sees it: its members, who answers, who is behind, how far its oplog reaches."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient


def describe_replica_set(client: MongoClient[dict[str, Any]]) -> dict[str, Any]:
    """Return the set's name, whether this member takes writes, its members and the hours of its oplog."""
    hello = client.admin.command("hello")
    name = hello.get("setName")
    return {
        "name": name,
        "writable": hello.get("isWritablePrimary", False),
        "members": _members(client) if name else [],
        "majority_is_journaled": _configuration(client)["writeConcernMajorityJournalDefault"] if name else None,
        "oplog": _oplog(client) if name else None,
    }


def _configuration(client: MongoClient[dict[str, Any]]) -> dict[str, Any]:
    return dict(client.admin.command("replSetGetConfig")["config"])


def _members(client: MongoClient[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every member that is configured; `behind_seconds` is None for one whose data nobody knows of."""
    status = {member["name"]: member for member in client.admin.command("replSetGetStatus")["members"]}
    times = {name: member.get("optimeDate") for name, member in status.items() if member["health"] > 0}
    newest = max(time for time in times.values() if time is not None)
    return [
        {
            "host": member["host"],
            "votes": member["votes"],
            "priority": member["priority"],
            "hidden": member["hidden"],
            "arbiter": member["arbiterOnly"],
            "state": status[member["host"]]["stateStr"],
            "answers": status[member["host"]]["health"] > 0,
            "behind_seconds": (newest - time).total_seconds() if (time := times.get(member["host"])) else None,
        }
        for member in _configuration(client)["members"]
    ]


def _oplog(client: MongoClient[dict[str, Any]]) -> dict[str, Any]:
    """Return the hours that the oplog spans, how full it is, and for how many hours the server keeps entries anyway."""
    oplog = client.local["oplog.rs"]
    first, last = (next(oplog.find({}, {"ts": 1}).sort("$natural", order).limit(1))["ts"] for order in (1, -1))
    size = client.local.command("collStats", "oplog.rs")
    kept = client.admin.command("serverStatus")["oplogTruncation"].get("oplogMinRetentionHours", 0)
    return {
        "hours": round((last.time - first.time) / 3600, 2),
        "full": round(size["size"] / size["maxSize"], 3),
        "kept_hours": kept,
    }
