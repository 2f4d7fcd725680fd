"""A migration that counts, so that a document that it changed twice would show."""

from __future__ import annotations

from dbkeep.mongodb.connect import Client
from dbkeep.mongodb.migrations import history
from dbkeep.mongodb.models import Declared, Migration
from dbkeep.settings import MongoDBSettings

COUNT_UP = '''
"""Every thing has counted to one."""

def up(documents):
    documents.update("things", {"counted": {"$exists": False}}, [{"$set": {"n": {"$add": ["$n", 1]}, "counted": True}}])

def down(documents):
    documents.update("things", {"counted": True}, [{"$set": {"n": {"$add": ["$n", -1]}}}, {"$unset": "counted"}])

def verify(documents):
    return documents.count("things", {"counted": {"$exists": False}})
'''


def migration(name: str = "0001_count_up", source: str = COUNT_UP) -> Migration:
    return Migration(id=name, path=f"mongo/migrations/{name}.py", summary="Count.", source=source)


def with_migrations(declared: Declared, *which: Migration) -> Declared:
    return declared.model_copy(update={"migrations": which})


def fill(client: Client, count: int) -> None:
    client["chat"]["things"].insert_many([{"n": 0} for _ in range(count)])


def states(settings: MongoDBSettings, declared: Declared) -> dict[str, str]:
    return {entry.id: entry.state for entry in history.status(settings, declared)}
