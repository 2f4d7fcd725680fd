"""Several real servers on loopback as one replica set, and a writer who counts on what is acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bson import ObjectId
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import OperationFailure, PyMongoError

from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import address, administrator, client
from dbkeep.mongodb.inspect import member_client
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

WRITTEN = "written"


@dataclass
class Replicas:
    """The servers by their place, the first a replica set of one with its administrator."""

    servers: list[MongoDBSettings]

    def named(self, *numbers: int) -> tuple[str, ...]:
        return tuple(address(self.servers[number]) for number in numbers)

    def through(self, number: int) -> MongoDBSettings:
        """Return the settings of the agent on the host of one server."""
        everyone = self.named(*range(len(self.servers)))
        return self.servers[number].model_copy(update={"members": everyone})


@contextmanager
def replicas(folder: Path, security: sandbox.Security, number: int = 3) -> Iterator[Replicas]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(sandbox.start(folder / f"member-{place}", security=security, initiate=False))
            for place in range(number)
        ]
        bootstrap.apply(servers[0], [address(servers[0])], security.keyfile)
        bootstrap.wait_for_primary(servers[0])
        _elect_soon(servers[0])
        yield Replicas(servers)


def _elect_soon(settings: MongoDBSettings) -> None:
    with client(settings, direct=True, **administrator(settings)) as connection:
        config = connection.admin.command("replSetGetConfig")["config"]
        config["version"] += 1
        config["settings"]["electionTimeoutMillis"] = 2000
        connection.admin.command("replSetReconfig", config)


@contextmanager
def replica_set(folder: Path, *, miss_primary_ms: int) -> Iterator[list[MongoDBSettings]]:
    """Yield three members, open to everyone; the first is their primary, which the others miss after a while."""
    with ExitStack() as stack:
        members = [stack.enter_context(sandbox.start(folder / str(number), initiate=False)) for number in range(3)]
        _initiate(members, miss_primary_ms)
        yield members


def _initiate(members: list[MongoDBSettings], miss_primary_ms: int) -> None:
    hosts = [{"_id": number, "host": address(member)} for number, member in enumerate(members)]
    # Without chaining a secondary that is held back holds no other one back.
    options = {"electionTimeoutMillis": miss_primary_ms, "chainingAllowed": False}
    config = {"_id": members[0].replica_set, "members": hosts, "settings": options}
    with client(members[0], direct=True) as connection:
        connection.admin.command("replSetInitiate", config)
        deadline = time.monotonic() + 30
        while not connection.admin.command("hello")["isWritablePrimary"]:
            assert time.monotonic() < deadline
            with suppress(OperationFailure):
                connection.admin.command("replSetStepUp")
            time.sleep(0.1)


@dataclass
class Writer:
    """Writes without a pause with majority write concern, and keeps the _id of whatever was acknowledged."""

    settings: MongoDBSettings
    acknowledged: list[ObjectId] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __enter__(self) -> Writer:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        options: dict[str, Any] = {"retryWrites": True, "serverSelectionTimeoutMS": 30_000}
        with client(self.settings, **administrator(self.settings), **options) as connection:
            concern = WriteConcern("majority", wtimeout=30_000)
            documents = connection["chat"].get_collection(WRITTEN, write_concern=concern)
            while not self._stop.wait(0.005):
                document = {"_id": ObjectId()}
                try:
                    documents.insert_one(document)
                    self.acknowledged.append(document["_id"])
                except PyMongoError as error:
                    self.refused.append(str(error))


def lost(settings: MongoDBSettings, member: str, acknowledged: list[ObjectId]) -> list[ObjectId]:
    """Return what one member does not have of what was acknowledged."""
    with member_client(settings, member) as connection:
        documents = connection["chat"].get_collection(WRITTEN, read_preference=ReadPreference.SECONDARY_PREFERRED)
        found = {document["_id"] for document in documents.find({}, {"_id": 1})}
    return [_id for _id in acknowledged if _id not in found]
