"""The people of a world, what they own, and which of it each of them may see.

All of it follows from one mark, so that two programs that know the mark know the same people.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

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
USERNAME_PREFIX, ADDRESS_PREFIX = "dbkeep-probe-", "dbkeep-probe:"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    id: UUID
    username: str
    is_active: bool


class Seed:
    """`people` by name; `rows` by table, each row with the columns to insert. `mark` is random without one."""

    def __init__(self, mark: str | None = None) -> None:
        self.mark = mark or secrets.token_hex(16)
        self.people = {
            name: Person(name, self._id(name), f"{USERNAME_PREFIX}{self.mark[:8]}-{name}", name != DEACTIVATED)
            for name in NAMES
        }
        rows = (self._users(), self._profiles(), self._relationships(), self._settings(), self._refresh_tokens())
        self.rows: dict[str, list[Row]] = {table: list(some) for table, some in zip(TABLES, rows, strict=True)}

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

    @staticmethod
    def remove(connection: psycopg.Connection[Any]) -> int:
        """Delete the people of every seed, those of an interrupted run too, and return how many there were.

        No user of an application has such an address: it is no envelope.
        """
        return connection.execute(
            "DELETE FROM chat.users WHERE starts_with(username, %s) AND starts_with(email, %s)",
            [USERNAME_PREFIX, ADDRESS_PREFIX],
        ).rowcount

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

    def _bytes(self, label: str) -> bytes:
        return hashlib.sha256(f"{self.mark}/{label}".encode()).digest()

    def _id(self, label: str) -> UUID:
        return UUID(bytes=self._bytes(label)[:16], version=4)

    def _users(self) -> Iterator[Row]:
        for person in self.people.values():
            yield {
                "id": person.id,
                "email": f"{ADDRESS_PREFIX}{self._bytes(f'address of {person.name}').hex()}",
                "email_index": self._bytes(f"index of {person.name}"),
                "username": person.username,
                "password_hash": f"$argon2id$v=19$m=1,t=1,p=1$c2FsdA${self._bytes(f'hash of {person.name}').hex()}",
                "is_active": person.is_active,
            }

    def _profiles(self) -> Iterator[Row]:
        for person in self.people.values():
            yield {
                "id": self._id(f"profile of {person.name}"),
                "user_id": person.id,
                "display_name": person.name,
                "bio": f"bio of {person.username}",
            }

    def _relationships(self) -> Iterator[Row]:
        for one, other, kind, status in TIES:
            yield {
                "id": self._id(f"{one} and {other}"),
                "user_id": self.people[one].id,
                "related_user_id": self.people[other].id,
                "type": kind,
                "status": status,
            }

    def _settings(self) -> Iterator[Row]:
        for person in self.people.values():
            for key in ("theme", "language"):
                yield {
                    "id": self._id(f"{key} of {person.name}"),
                    "user_id": person.id,
                    "key": key,
                    "value": json.dumps(f"{key} of {person.username}"),
                }

    def _refresh_tokens(self) -> Iterator[Row]:
        """One live, one revoked and one expired token each; nobody knows what their hashes are of."""
        for person in self.people.values():
            for name, days, revoked in (("live", 1, False), ("revoked", 1, True), ("expired", -1, False)):
                label = f"{name} token of {person.name}"
                yield {
                    "id": self._id(label),
                    "user_id": person.id,
                    "family_id": self._id(f"family of {label}"),
                    "token": self._bytes(label).hex(),
                    "expires_at": now() + timedelta(days=days),
                    "created_at": now() - timedelta(days=2),
                    "revoked": revoked,
                    "revoked_at": now() if revoked else None,
                }
