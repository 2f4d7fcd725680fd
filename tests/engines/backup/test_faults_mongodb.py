"""What happens to MongoDB during a dump: shapes change, collections and primaries go. The dump is good or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from dbkeep.backup.restore_mongodb import open_part
from dbkeep.backup.run import run
from dbkeep.backup.sealed_file import seal
from dbkeep.backup.settings import BackupHost, MongoDBBackup
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import Client, address
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.settings import MongoDBSettings

from ..mongodb.replicas import replica_set
from .conftest import Site, backup_settings

Act = Callable[[Client], Any]


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
def server(site: Site) -> MongoDBSettings:
    assert site.host.mongodb is not None
    return site.host.mongodb


@pytest.fixture
def extra(server: MongoDBSettings) -> Iterator[str]:
    """A collection of 100 documents that is dumped after the others."""
    with mongodb(server) as client:
        client["chat"]["zebras"].insert_many([{"n": n, "m": f"stripes {n}"} for n in range(100)])
        yield "chat.zebras"
        client["chat"]["zebras"].drop()
        client["chat"]["yaks"].drop()


def assert_whole(host: BackupHost, part: Part, identity: str) -> None:
    """The archive ends as it should and holds the documents that the manifest counts, of the collections it names."""
    found = dict.fromkeys(part.counts, 0)
    with (
        TemporaryDirectory() as workspace,
        open_part(host.sets / part.set_id / "mongodb", part, identity, Path(workspace)) as stream,
    ):
        reader = Reader(stream, part.set_id)
        for (database, name), documents in reader.batches():
            if database == "chat":
                found[f"chat.{name}"] += len(documents)
    assert {name: count.low for name, count in part.counts.items()} == found
    assert shape([c for c in reader.collections if c.database == "chat"]) == part.details["shape"]


def zebras(client: Client, **change: Any) -> None:
    client["chat"].command({"collMod": "zebras", **change})


CHANGES: dict[str, tuple[Act, int | None]] = {
    "a validator": (lambda c: zebras(c, validator={"n": {"$gte": 0}}), 100),
    "an index is built": (lambda c: c["chat"]["zebras"].create_index("n", name="late"), 100),
    "an index is dropped": (lambda c: c["chat"]["messages"].drop_index("by_n"), 100),
    "a collection is dropped": (lambda c: c["chat"]["zebras"].drop(), None),
    "a collection is renamed": (lambda c: c["chat"]["zebras"].rename("yaks"), None),
    "a collection is made anew": (
        lambda c: (c["chat"]["zebras"].drop(), c["chat"]["zebras"].insert_one({"n": 1})),
        1,
    ),
    "a collection is made": (lambda c: c["chat"]["yaks"].insert_one({"n": 1}), 100),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_during_a_dump_is_in_it_or_not_but_never_half(
    site: Site, server: MongoDBSettings, extra: str, during_the_dump: Callable[..., list[int]], change: str
) -> None:
    before = site.take(("mongodb",))["mongodb"]
    act, documents = CHANGES[change]
    done = during_the_dump(server, act)
    part = site.take(("mongodb",))["mongodb"]
    assert done
    count = part.counts.get(extra)
    assert (count.low if count else None) == documents
    assert_whole(site.host, part, site.identity)
    assert verify(site.host, before.set_id)["ok"]
    with mongodb(server) as client:
        client["chat"]["messages"].create_index([("n", -1), ("content", 1)], name="by_n", unique=True)


@pytest.mark.usefixtures("extra")
def test_collections_that_never_rest_are_said_and_the_next_run_is_good(
    site: Site, server: MongoDBSettings, during_the_dump: Callable[..., list[int]]
) -> None:
    before = site.take(("mongodb",))["mongodb"]

    def make_anew(client: Client) -> None:
        client["chat"]["zebras"].drop()
        client["chat"]["zebras"].insert_one({"n": 1})

    during_the_dump(server, make_anew, times=99)
    with pytest.raises(
        DbkeepError, match=r"mongodb: 3 dumps were interrupted, the last because .*; run the"
    ) as refused:
        site.take(("mongodb",))
    assert "\n" not in str(refused.value)
    assert verify(site.host, before.set_id)["ok"]
    during_the_dump(server, make_anew, times=0)
    assert_whole(site.host, site.take(("mongodb",))["mongodb"], site.identity)


@pytest.mark.usefixtures("extra")
def test_a_collection_dropped_while_its_documents_are_read_is_left_out(
    site: Site, server: MongoDBSettings, during_the_dump: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BATCH_DOCUMENTS", 10)
    done = during_the_dump(server, lambda client: client["chat"]["zebras"].drop(), mark=b"stripes 5")
    part = site.take(("mongodb",))["mongodb"]
    assert done
    assert "chat.zebras" not in part.counts
    assert_whole(site.host, part, site.identity)


def test_a_primary_that_steps_down_during_a_dump_is_followed(
    folder: Path, during_the_dump: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BATCH_DOCUMENTS", 10)
    identity = str(pyrage.x25519.Identity.generate())
    with replica_set(folder / "three", miss_primary_ms=3000) as members:
        settings = backup_settings(
            folder / "three",
            identity,
            mongodb=MongoDBBackup(keyfile=None, os_user="root"),
        )
        here = members[0].model_copy(update={"members": tuple(address(member) for member in members)})
        host = BackupHost(settings, mongodb=here)
        with mongodb(here) as client:
            documents = client["chat"].get_collection("zebras", write_concern=WriteConcern(3))
            documents.insert_many([{"n": n, "m": f"stripes {n}"} for n in range(100)])
        before = run(host, "20260101T000000Z")[0]
        done = during_the_dump(here, step_down, mark=b"stripes 5")
        said: list[str] = []
        part = run(host, "20260101T010000Z", progress=said.append)[0]
        assert done
        assert [line for line in said if "the primary went away" in line], said
        assert part.counts["chat.zebras"].low == 100
        assert verify(host, before.set_id)["ok"]
        assert_whole(host, part, identity)
        assert run(host, "20260101T020000Z")[0].counts == part.counts


def step_down(client: Client) -> None:
    client.admin.command("replSetStepDown", 20, secondaryCatchUpPeriodSecs=10)
