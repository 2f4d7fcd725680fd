"""Sends many documents, each for itself, and says what the server answered to each; nothing of them stays."""

from __future__ import annotations

from collections.abc import Sequence

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.prove.attempts import attempt, write_codes
from dbkeep.mongodb.prove.world import World

# So many go in one command.
BATCH = 250
Codes = list[int | None]


def insert_each(world: World, user: str, collection: str, documents: Sequence[Document]) -> Codes:
    """Return the code that each document was refused with, None for one that was accepted."""
    if not world.is_copy:
        return [_insert_and_abort(world, user, collection, document) for document in documents]
    command = {"insert": collection, "documents": list(documents), "ordered": False}
    codes = write_codes(world.client(user)[world.database].command(command), len(documents))
    clear(world, collection)
    return codes


def update_each(
    world: World, users: tuple[str, str], collection: str, base: Document, updates: Sequence[Document]
) -> Codes:
    """Return the code that each update of a stored document was refused with; `users` insert and update.

    On a live server both are one user, because a transaction is one user's. Raises OperationFailure when the document
    is not stored.
    """
    inserting, updating = users
    if not world.is_copy:
        return [_update_and_abort(world, updating, collection, base, update) for update in updates]
    world.client(inserting)[world.database][collection].insert_one(dict(base))
    changes = [{"q": {"_id": base["_id"]}, "u": update} for update in updates]
    command = {"update": collection, "updates": changes, "ordered": False}
    codes = write_codes(world.client(updating)[world.database].command(command), len(updates))
    clear(world, collection)
    return codes


def clear(world: World, collection: str) -> None:
    """Empty a collection of a copy."""
    world.administrator()[world.database][collection].delete_many({})


def _insert_and_abort(world: World, user: str, collection: str, document: Document) -> int | None:
    with world.aborted(user) as (client, session):
        return attempt(client, world.database, {"insert": collection, "documents": [document]}, session).code


def _update_and_abort(world: World, user: str, collection: str, base: Document, update: Document) -> int | None:
    with world.aborted(user) as (client, session):
        client[world.database][collection].insert_one(dict(base), session=session)
        changes = [{"q": {"_id": base["_id"]}, "u": update}]
        return attempt(client, world.database, {"update": collection, "updates": changes}, session).code
