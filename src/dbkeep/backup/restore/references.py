"""References between the stores: whom documents of MongoDB and sessions of Redis name must be a user of PostgreSQL.

No server keeps them, and the engines of a point are some milliseconds apart: after a restore they are compared. Only
ids are read and shown, no session's key, and never more than a page at a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, cast

import redis

from dbkeep.backup.settings import BackupHost
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis_connect

PAGE = 50_000
SCAN_COUNT = 1000
EXAMPLES = 5
_MISSING = """
SELECT wanted::text FROM unnest(%s::uuid[]) AS wanted
WHERE NOT EXISTS (SELECT FROM chat.users WHERE users.id = wanted)
"""


@dataclass(frozen=True, slots=True)
class Reference:
    """A place that names users: a field of a collection, or the values of the keys with a prefix."""

    engine: str
    place: str
    field: str = ""
    many: bool = False

    @property
    def name(self) -> str:
        return f"{self.place}.{self.field}" if self.field else self.place


REFERENCES = (
    Reference("mongodb", "messages", "sender_id"),
    Reference("mongodb", "conversations", "participants", many=True),
    Reference("mongodb", "notifications", "user_id"),
    Reference("mongodb", "notification_preferences", "user_id"),
    Reference("redis", "sess:"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the users that a place names: id, how often, and the id of one document that does; None in Redis.

    `after` asks for the next page, None when this is the last.
    """

    users: Sequence[tuple[str, int, str | None]]
    after: str | None


@dataclass
class Finding:
    """What one place names: how many users, how many of them do not exist, how often those are named, and examples."""

    reference: str
    users: int = 0
    missing_users: int = 0
    dangling: int = 0
    examples: list[dict[str, str | None]] = field(default_factory=list)


Ask = Callable[[Reference, str], Page]


def compare(references: Iterable[Reference], page: Ask, missing: Callable[[list[str]], list[str]]) -> list[Finding]:
    """Return a finding for each place, from its pages of named users and from what says which of these do not exist."""
    findings = []
    for reference in references:
        finding, after = Finding(reference.name), ""
        while True:
            found = page(reference, after)
            _add(finding, found, set(missing([user for user, _, _ in found.users])))
            if found.after is None:
                break
            after = found.after
        findings.append(finding)
    return findings


def _add(finding: Finding, page: Page, absent: set[str]) -> None:
    finding.users += len(page.users)
    for user, count, document in page.users:
        if user in absent:
            finding.missing_users += 1
            finding.dangling += count
            if len(finding.examples) < EXAMPLES:
                finding.examples.append({"user": user, "document": document})


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as what evidence holds: each place's, and how many references dangle in all."""
    rows = [asdict(finding) for finding in findings]
    return {"references": rows, "dangling": sum(finding.dangling for finding in findings)}


def compare_here(host: BackupHost) -> list[Finding]:
    """Compare the engines that `host` says how to reach, PostgreSQL among them. Raises DbkeepError of a server."""
    here = [reference for reference in REFERENCES if getattr(host, reference.engine) is not None]
    return compare(here, lambda reference, after: named_users(host, reference, after), lambda ids: missing(host, ids))


def named_users(host: BackupHost, reference: Reference, after: str) -> Page:
    """Return the page of users that `reference` names which follows `after`; raises DbkeepError of the server."""
    if reference.engine == "redis":
        return _of_keys(host, reference, after)
    with mongodb(host.with_mongodb()[1]) as client:
        collection = client[host.with_mongodb()[1].database][reference.place]
        found = collection.aggregate(_pipeline(reference, after), allowDiskUse=True)
        users = [(str(row["_id"]), int(row["number"]), str(row["document"])) for row in found]
    return Page(users, users[-1][0] if len(users) == PAGE else None)


def _pipeline(reference: Reference, after: str) -> list[dict[str, Any]]:
    named = f"${reference.field}"
    following = {"$match": {reference.field: {"$type": "string", "$gt": after}}}
    return [
        *([{"$unwind": named}] if reference.many else []),
        following,
        {"$group": {"_id": named, "number": {"$sum": 1}, "document": {"$first": "$_id"}}},
        {"$sort": {"_id": 1}},
        {"$limit": PAGE},
    ]


def _of_keys(host: BackupHost, reference: Reference, after: str) -> Page:
    backup, settings = host.with_redis()
    numbers: dict[str, int] = {}
    cursor = int(after or 0)
    with redis_connect(backup.instance, settings.instances[backup.instance]) as client:
        while True:
            cursor, keys = cast(
                tuple[int, list[str]], client.scan(cursor, match=f"{reference.place}*", count=SCAN_COUNT)
            )
            for user in _values(client, keys):
                numbers[user] = numbers.get(user, 0) + 1
            if not cursor or len(numbers) >= PAGE:
                break
    return Page([(user, number, None) for user, number in numbers.items()], str(cursor) if cursor else None)


def _values(client: redis.Redis, keys: list[str]) -> Iterator[str]:
    if keys:
        yield from (value for value in cast(list[str | None], client.mget(keys)) if value is not None)


def missing(host: BackupHost, ids: Iterable[str]) -> list[str]:
    """Return those of `ids` that no user of PostgreSQL has; what is no UUID is no user's."""
    absent, wanted = [], iter(ids)
    with postgresql(host.with_postgresql()[1]) as connection:
        while batch := list(islice(wanted, PAGE)):
            proper = [user for user in batch if _is_uuid(user)]
            absent += [user for user in batch if not _is_uuid(user)]
            if proper:
                absent += [row[0] for row in connection.execute(_MISSING, [proper])]
    return absent


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
