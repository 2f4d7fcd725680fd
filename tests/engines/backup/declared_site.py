"""A host as the checkout declares it: the site of conftest.py with the real tables, collections and users in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bson import ObjectId
from psycopg import sql

from dbkeep.backup.drill.claims import Claimed, claims, read_claims
from dbkeep.engines import NAMES, engine
from dbkeep.environment import checkout
from dbkeep.mongodb.connect import connect as mongodb_connect
from dbkeep.postgresql.connect import connect as postgresql_connect
from dbkeep.redis.connect import connect as redis_connect
from dbkeep.secrets import new_password

from .conftest import Site, make_site

VARIABLES = {"postgresql_context": "signed"}
MESSAGES = 12


def claimed() -> dict[str, Claimed]:
    """What the controller sends of this checkout, as the agent reads it."""
    return read_claims(claims(checkout(), VARIABLES, NAMES))


@contextmanager
def make_declared_site(folder: Path) -> Iterator[Site]:
    with make_site(folder) as site:
        found = claimed()
        for name in NAMES:
            declared = found[name].declared
            passwords = {user: new_password() for user in engine(name).users(declared)} | {
                "context_key": new_password()
            }
            engine(name).apply(getattr(site.host, name), declared, passwords)
        users = [_user(site, name) for name in ("ada", "grace", "tony")]
        _talk(site, users)
        with redis_connect(*site.state()) as client:
            for user in users:
                client.set(f"sess:{uuid4()}", str(user), ex=3600)
        yield site


def _user(site: Site, name: str) -> UUID:
    identifier = uuid4()
    row: dict[str, Any] = {
        "id": identifier,
        "username": name,
        "email": f"v1.{name}",
        "email_index": name.encode().ljust(32, b"\0"),
        "password_hash": "$argon2id$v=19$m=65536,t=3,p=4$bm90aGluZw$bm90aGluZw",
    }
    insert = sql.SQL("INSERT INTO chat.users ({}) VALUES ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
    )
    with postgresql_connect(site.host.with_postgresql()[1]) as connection:
        connection.execute(insert, row)
        connection.execute(
            "INSERT INTO chat.profiles (id, user_id, display_name) VALUES (%s, %s, %s)", [uuid4(), identifier, name]
        )
    return identifier


def _talk(site: Site, users: list[UUID]) -> None:
    began, conversation = datetime.now(UTC) - timedelta(hours=1), ObjectId()
    with mongodb_connect(site.host.with_mongodb()[1]) as client:
        client["chat"]["conversations"].insert_one(
            {
                "_id": conversation,
                "type": "group",
                "name": "Reading group",
                "participants": [str(user) for user in users],
                "created_by": str(users[0]),
                "created_at": began,
                "updated_at": began,
                "last_message_at": began,
                "is_active": True,
            }
        )
        client["chat"]["messages"].insert_many(
            {
                "conversation_id": conversation,
                "sender_id": str(users[number % len(users)]),
                "content": f"Line {number}",
                "attachments": [],
                "created_at": began + timedelta(minutes=number),
                "updated_at": began + timedelta(minutes=number),
                "delivered_to": [],
                "read_by": [],
            }
            for number in range(MESSAGES)
        )
