"""The people of a world, what they own, and which of it each of them may see."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from dbkeep.evidence import now

NAMES = ("anna", "ben", "carl", "dora", "erik", "fred", "gina")
DEACTIVATED = "dora"
# Who asked or blocked whom. What concerns neither of two people must stay hidden from both.
TIES = (
    ("anna", "ben", "friend", "accepted"),
    ("carl", "anna", "blocked", "accepted"),
    ("dora", "anna", "friend", "accepted"),
    ("erik", "anna", "friend", "pending"),
    ("anna", "fred", "friend", "rejected"),
    ("anna", "gina", "blocked", "accepted"),
    ("ben", "carl", "friend", "pending"),
)
TABLES = ("chat.users", "chat.profiles", "chat.relationships", "chat.settings", "chat.refresh_tokens")
USERNAME_PREFIX = "dbkeep-probe-"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    id: UUID
    username: str
    is_active: bool


class Seed:
    """`people` by name; `rows` by table, each row with the columns it was inserted with."""

    def __init__(self) -> None:
        mark = secrets.token_hex(4)
        self.people = {
            name: Person(name, uuid4(), f"{USERNAME_PREFIX}{mark}-{name}", name != DEACTIVATED) for name in NAMES
        }
        self.rows: dict[str, list[Row]] = {table: list(_ROWS[table](self.people)) for table in TABLES}

    def insert(self, connection: psycopg.Connection[Any]) -> None:
        """Write the rows; `connection` is one that row security does not bind."""
        with connection.transaction():
            for table, rows in self.rows.items():
                columns = list(rows[0])
                statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                    sql.Identifier(*table.split(".")),
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.SQL(", ").join(sql.Placeholder(column) for column in columns),
                )
                connection.cursor().executemany(statement, rows)

    def ids(self, table: str) -> set[UUID]:
        return {row["id"] for row in self.rows[table]}

    def visible(self, table: str, viewer: Person | None) -> set[UUID]:
        """Return the ids of the rows of `table` that `viewer` may see through the API's role; None sees nothing."""
        if viewer is None or not viewer.is_active:
            return set()
        return {row["id"] for row in self.rows[table] if self._may_see(table, row, viewer)}

    def own(self, table: str, owner: Person) -> set[UUID]:
        """Return the ids of the rows of `table` that are `owner`'s."""
        return {row["id"] for row in self.rows[table] if row.get("user_id", row["id"]) == owner.id}

    def knows_of(self, viewer: Person, other: Person) -> bool:
        """Return whether `viewer` may know that `other` exists: both active, and `other` does not block `viewer`."""
        return viewer.is_active and other.is_active and (other.name, viewer.name, "blocked", "accepted") not in TIES

    def _may_see(self, table: str, row: Row, viewer: Person) -> bool:
        match table:
            case "chat.users":
                return bool(row["id"] == viewer.id)
            case "chat.profiles":
                owner = next(person for person in self.people.values() if person.id == row["user_id"])
                return self.knows_of(viewer, owner)
            case "chat.relationships":
                asked = row["related_user_id"] == viewer.id and row["type"] == "friend"
                return bool(row["user_id"] == viewer.id or asked)
            case "chat.settings":
                return bool(row["user_id"] == viewer.id)
            case _:
                return False


def _users(people: dict[str, Person]) -> Iterator[Row]:
    for person in people.values():
        yield {
            "id": person.id,
            "email": f"e1:{secrets.token_hex(12)}",
            "email_index": hashlib.sha256(person.id.bytes).digest(),
            "username": person.username,
            "password_hash": f"$argon2id$v=19$m=1,t=1,p=1$c2FsdA${secrets.token_hex(12)}",
            "is_active": person.is_active,
        }


def _profiles(people: dict[str, Person]) -> Iterator[Row]:
    for person in people.values():
        yield {"id": uuid4(), "user_id": person.id, "display_name": person.name, "bio": f"bio of {person.username}"}


def _relationships(people: dict[str, Person]) -> Iterator[Row]:
    for one, other, kind, status in TIES:
        yield {
            "id": uuid4(),
            "user_id": people[one].id,
            "related_user_id": people[other].id,
            "type": kind,
            "status": status,
        }


def _settings(people: dict[str, Person]) -> Iterator[Row]:
    for person in people.values():
        for key in ("theme", "language"):
            yield {"id": uuid4(), "user_id": person.id, "key": key, "value": json.dumps(f"{key} of {person.username}")}


def _refresh_tokens(people: dict[str, Person]) -> Iterator[Row]:
    """One live, one revoked and one expired token each."""
    for person in people.values():
        for days, revoked in ((1, False), (1, True), (-1, False)):
            yield {
                "id": uuid4(),
                "user_id": person.id,
                "family_id": uuid4(),
                "token": secrets.token_hex(32),
                "expires_at": now() + timedelta(days=days),
                "created_at": now() - timedelta(days=2),
                "revoked": revoked,
                "revoked_at": now() if revoked else None,
            }


_ROWS = {
    "chat.users": _users,
    "chat.profiles": _profiles,
    "chat.relationships": _relationships,
    "chat.settings": _settings,
    "chat.refresh_tokens": _refresh_tokens,
}
