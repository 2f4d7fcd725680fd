"""Conversations without a message have their time of creation as last_message_at, by which lists are ordered."""

from dbkeep.mongodb.migrations.batches import Batches

WITHOUT = {"last_message_at": {"$exists": False}}
# A conversation that nobody spoke in, as this migration and the API leave it.
SILENT = {
    "last_message_at": {"$exists": True},
    "last_message_preview": {"$exists": False},
    "$expr": {"$eq": ["$last_message_at", "$created_at"]},
}


def up(documents: Batches) -> None:
    documents.update("conversations", WITHOUT, [{"$set": {"last_message_at": "$created_at"}}])


def down(documents: Batches) -> None:
    documents.update("conversations", SILENT, {"$unset": {"last_message_at": ""}})


def verify(documents: Batches) -> int:
    return documents.count("conversations", WITHOUT)
