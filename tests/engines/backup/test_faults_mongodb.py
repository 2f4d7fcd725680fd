"""What happens to MongoDB during a dump: shapes change, collections and primaries go. The dump is good or refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyrage
import pytest
from pymongo import WriteConcern

from dbkeep.backup import mongodb as engine
from dbkeep.backup.archive_format import Reader
from dbkeep.backup.manifest import Part
from dbkeep.backup.mongodb import shape
from dbkeep.backup.restore.mongodb import open_part
from dbkeep.backup.run import run
from dbkeep.backup.sealed_file import seal
from dbkeep.backup.settings import BackupHost, MongoDBBackup
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import Client, address
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from ..mongodb.replicas import replica_set
from .conftest import backup_settings

Act = Callable[[Client], Any]


@dataclass
class Place:
    """A host with MongoDB alone."""

    host: BackupHost
    identity: str
    sets: int = 0

    @classmethod
    def of(cls, folder: Path, server: MongoDBSettings) -> Place:
        identity = str(pyrage.x25519.Identity.generate())
        settings = backup_settings(
            folder,
            identity,
            mongodb=MongoDBBackup(keyfile=None, os_user="root"),
        )
        return cls(BackupHost(settings, mongodb=server), identity)

    @property
    def server(self) -> MongoDBSettings:
        return self.host.with_mongodb()[1]

    def take(self, said: list[str] | None = None) -> Part:
        self.sets += 1
        heard = [] if said is None else said
        return run(self.host, f"20260101T{self.sets:06}Z", progress=heard.append)[0]

    def assert_good(self, part: Part) -> None:
        """What is stored is as it was written, holds the documents that the manifest counts, and ends as it should."""
        assert verify(self.host, part.set_id)["ok"]
        found = dict.fromkeys(part.counts, 0)
        with (
            TemporaryDirectory() as workspace,
            open_part(self.host.sets / part.set_id / "mongodb", part, self.identity, Path(workspace)) as stream,
        ):
            reader = Reader(stream, part.set_id)
            for (database, name), documents in reader.batches():
                if database == "chat":
                    found[f"chat.{name}"] += len(documents)
        assert {name: count.low for name, count in part.counts.items()} == found
        assert shape([c for c in reader.collections if c.database == "chat"]) == part.details["shape"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("mongodb")
    with sandbox.start(folder / "server") as server:
        with mongodb(server) as client:
            client["chat"]["messages"].insert_many([{"n": n} for n in range(250)])
            client["chat"]["messages"].create_index("n", name="by_n")
        yield Place.of(folder, server)


@pytest.fixture
def during_the_dump(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Gives a function that makes dumps of `settings` pause at the first piece that holds `mark` for `act` to happen.

    It returns a list, which grows with every dump that paused; after `times` of them no other does.
    """

    def arrange(settings: MongoDBSettings, act: Act, mark: bytes = b"system.users", times: int = 1) -> list[int]:
        done: list[int] = []

        def interrupted(chunks: Iterable[bytes]) -> Iterator[bytes]:
            acted = len(done) >= times
            for number, chunk in enumerate(chunks):
                if not acted and number and mark in chunk:
                    acted = True
                    done.append(number)
                    with mongodb(settings) as client:
                        act(client)
                yield chunk

        def sealed(chunks: Iterable[bytes], path: Path, recipients: tuple[str, ...]) -> Any:
            return seal(interrupted(chunks), path, recipients)

        monkeypatch.setattr(engine, "seal", sealed)
        return done

    return arrange


@pytest.fixture
def extra(place: Place) -> Iterator[str]:
    """A collection of 100 documents that is dumped after the others."""
    with mongodb(place.server) as client:
        client["chat"]["zebras"].insert_many([{"n": n, "m": f"stripes {n}"} for n in range(100)])
        yield "chat.zebras"
        client["chat"]["zebras"].drop()
        client["chat"]["yaks"].drop()
        client["chat"]["messages"].create_index("n", name="by_n")


def zebras(client: Client, **change: Any) -> None:
    client["chat"].command({"collMod": "zebras", **change})


def made_anew(client: Client) -> None:
    client["chat"]["zebras"].drop()
    client["chat"]["zebras"].insert_one({"n": 1})


CHANGES: dict[str, tuple[Act, int | None]] = {
    "a validator": (lambda c: zebras(c, validator={"n": {"$gte": 0}}), 100),
    "an index is built": (lambda c: c["chat"]["zebras"].create_index("n", name="late"), 100),
    "an index is dropped": (lambda c: c["chat"]["messages"].drop_index("by_n"), 100),
    "a collection is dropped": (lambda c: c["chat"]["zebras"].drop(), None),
    "a collection is renamed": (lambda c: c["chat"]["zebras"].rename("yaks"), None),
    "a collection is made anew": (made_anew, 1),
    "a collection is made": (lambda c: c["chat"]["yaks"].insert_one({"n": 1}), 100),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_during_a_dump_is_in_it_or_not_but_never_half(
    place: Place, extra: str, during_the_dump: Callable[..., list[int]], change: str
) -> None:
    before = place.take()
    act, documents = CHANGES[change]
    done = during_the_dump(place.server, act)
    part = place.take()
    assert done
    count = part.counts.get(extra)
    assert (count.low if count else None) == documents
    place.assert_good(part)
    place.assert_good(before)


@pytest.mark.usefixtures("extra")
def test_collections_that_never_rest_are_said_and_the_next_run_is_good(
    place: Place, during_the_dump: Callable[..., list[int]]
) -> None:
    before = place.take()

    def make_anew(client: Client) -> None:
        client["chat"]["zebras"].drop()
        client["chat"]["zebras"].insert_one({"n": 1})

    during_the_dump(place.server, make_anew, times=99)
    with pytest.raises(DbkeepError, match=r"mongodb: 3 dumps were interrupted, the last because .*; run") as refused:
        place.take()
    assert "\n" not in str(refused.value)
    place.assert_good(before)
    during_the_dump(place.server, make_anew, times=0)
    place.assert_good(place.take())


@pytest.mark.usefixtures("extra")
def test_a_collection_dropped_while_its_documents_are_read_is_left_out(
    place: Place, during_the_dump: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BATCH_DOCUMENTS", 10)
    done = during_the_dump(place.server, lambda client: client["chat"]["zebras"].drop(), mark=b"stripes 5")
    part = place.take()
    assert done
    assert "chat.zebras" not in part.counts
    place.assert_good(part)


def step_down(client: Client) -> None:
    client.admin.command("replSetStepDown", 20, secondaryCatchUpPeriodSecs=10)


def kill(client: Client) -> None:
    os.kill(client.admin.command("serverStatus")["pid"], signal.SIGKILL)


# One that steps down goes on answering the cursors that it has: that dump is good as it is.
@pytest.mark.parametrize(("lose", "again"), [(step_down, False), (kill, True)], ids=["step-down", "kill -9"])
def test_a_primary_that_is_lost_during_a_dump_costs_no_document(
    tmp_path: Path,
    during_the_dump: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
    lose: Act,
    again: bool,
) -> None:
    monkeypatch.setattr(engine, "BATCH_DOCUMENTS", 10)
    with replica_set(tmp_path, miss_primary_ms=3000) as members:
        here = members[0].model_copy(update={"members": tuple(address(member) for member in members)})
        place = Place.of(tmp_path, here)
        with mongodb(here) as client:
            documents = client["chat"].get_collection("zebras", write_concern=WriteConcern(3))
            documents.insert_many([{"n": n, "m": f"stripes {n}"} for n in range(100)])
        before = place.take()
        done = during_the_dump(here, lose, mark=b"stripes 5")
        said: list[str] = []
        part = place.take(said)
        assert done
        assert again <= any("the primary went away" in line for line in said), said
        assert part.counts["chat.zebras"].low == 100
        place.assert_good(before)
        place.assert_good(part)
        assert place.take().counts == part.counts
