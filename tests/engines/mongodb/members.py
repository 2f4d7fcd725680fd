"""Several real servers as one replica set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pymongo.errors import OperationFailure

from dbkeep.mongodb.connect import address, client
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings


@contextmanager
def replica_set(folder: Path, *, miss_primary_ms: int) -> Iterator[list[MongoDBSettings]]:
    """Yield three members of one set, the first of them its primary, which the others miss after a while."""
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
