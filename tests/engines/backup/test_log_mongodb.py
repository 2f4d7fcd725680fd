"""MongoDB's log on a real, secured mongod: slices are cut while transactions run, and a restore goes to any write."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo.client_session import ClientSession

from dbkeep.backup.log.mongodb import note, position_of
from dbkeep.backup.manifest import RecoveryPoint
from dbkeep.backup.mongodb import list_collections, shape
from dbkeep.backup.restore.mongodb import replace as restore_in_place
from dbkeep.backup.restore.replay_mongodb import carry_on
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox.mongodb_security import issue

from .conftest import SandboxService
from .ledger import Mover, fill, observed, sums
from .mongodb_log_host import IDENTITY, SERVICES, documents_and_indexes, mongodb_host, restored, ship, take, to


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[BackupHost]:
    with mongodb_host(folder, issue(folder / "security")) as found:
        yield found


def test_a_restore_goes_to_any_write_while_transactions_ran_through_the_set(host: BackupHost, tmp_path: Path) -> None:
    fill(host)
    with Mover(host) as mover:
        ship(host)
        time.sleep(0.3)
        part = take(host)
        at_set = len(mover.times)
        for _ in range(4):
            time.sleep(0.3)
            ship(host)
        until = len(mover.times) - 1
        ship(host)
    ship(host)
    assert until - at_set > 9, "too few moves to choose from"
    for number in (at_set, (at_set + until) // 2):
        workspace = tmp_path / str(number)
        workspace.mkdir()
        with restored(host, part, to(mover.times[number]), workspace) as client:
            assert client["chat"]["ledger"].count_documents({}) == number + 1
            assert client["chat"]["ledger"].find_one(sort=[("_id", -1)]) == {"_id": number}
            assert observed(client) == sums(number + 1)


def contents(client: Client) -> dict[str, Any]:
    """All that the application's database and the accounts hold, in a form that two servers can be compared by."""
    collections = list_collections(client, "chat")
    documents = {
        c.name: json_util.dumps(list(client["chat"][c.name].find(sort=[("_id", 1)])))
        for c in collections
        if c.kind != "view"
    }
    users = client.admin["system.users"].find({"db": "admin"}, {"userId": 0}, sort=[("_id", 1)])
    roles = client.admin["system.roles"].find(sort=[("_id", 1)])
    return {
        "documents": documents,
        "shape": shape(collections),
        "users": json_util.dumps(list(users)),
        "roles": json_util.dumps(list(roles)),
    }


def names_and_views(client: Client) -> None:
    database = client["chat"]
    database["anew"].insert_one({"_id": "gone"})
    database["anew"].create_index("gone")
    database["anew"].drop()
    database.create_collection("anew", collation={"locale": "en"})
    database["anew"].insert_one({"_id": "anew"})
    database["first"].insert_one({"_id": 1, "n": 1})
    database["second"].insert_one({"_id": 2, "n": 2})
    database["first"].rename("third")
    database["second"].rename("third", dropTarget=True)
    database.command({"create": "seen", "viewOn": "third", "pipeline": [{"$match": {"n": 1}}]})
    database.command({"collMod": "seen", "viewOn": "third", "pipeline": [{"$match": {"n": 2}}]})
    database.command({"create": "unseen", "viewOn": "third", "pipeline": []})
    database["unseen"].drop()
    list(database["third"].aggregate([{"$out": "copied"}]))
    database.create_collection("capped", capped=True, size=4096)
    database["capped"].insert_many([{"_id": n} for n in range(5)])


def accounts_and_a_large_transaction(client: Client) -> None:
    privileges = [{"resource": {"db": "chat", "collection": "third"}, "actions": ["find"]}]
    client.admin.command({"createRole": "reader", "privileges": privileges, "roles": []})
    client.admin.command({"createUser": "stays", "pwd": "a-password-of-this-test", "roles": ["reader"]})
    client.admin.command({"createUser": "goes", "pwd": "a-password-of-this-test", "roles": ["reader"]})
    client.admin.command({"grantRolesToUser": "stays", "roles": [{"role": "read", "db": "chat"}]})
    client.admin.command({"dropUser": "goes"})

    def write(session: ClientSession) -> None:
        client["chat"]["small"].insert_one({"_id": 1}, session=session)
        for mebibytes in (7, 12):  # more than an entry of the oplog, or a batch of a replay, holds
            client["chat"]["big"].insert_one({"_id": mebibytes, "text": "x" * (mebibytes << 20)}, session=session)

    with client.start_session() as session:
        session.with_transaction(write)
    with client.start_session() as session:
        session.start_transaction()
        client["chat"]["small"].insert_one({"_id": "never"}, session=session)
        session.abort_transaction()


def test_changes_of_shape_and_accounts_are_replayed(host: BackupHost, tmp_path: Path) -> None:
    assert host.mongodb is not None
    part = take(host)
    with connect(host.mongodb) as client:
        for change in (documents_and_indexes, names_and_views, accounts_and_a_large_transaction):
            change(client)
            ship(host)
        position, expected = position_of(note(client, {"test": "all is done"})), contents(client)
        parts_of_transactions = client.local["oplog.rs"].count_documents({"o.partialTxn": True})
        client["chat"]["anew"].insert_one({"_id": "after"})
        client["chat"]["third"].drop()
    ship(host)
    assert parts_of_transactions, "no transaction was too large for one entry"
    with restored(host, part, to(position), tmp_path) as client:
        assert contents(client) == expected


def test_a_restore_in_place_goes_to_a_wall_clock_time_and_starts_a_new_chain(host: BackupHost, folder: Path) -> None:
    assert host.mongodb is not None
    part = take(host)
    with connect(host.mongodb) as client:
        client["chat"]["clock"].insert_one({"_id": "before"})
        time.sleep(0.05)
        moment = datetime.now(UTC)
        time.sleep(0.05)
        client["chat"]["clock"].insert_one({"_id": "after"})
    ship(host)
    service = SERVICES[folder]
    target = RecoveryPoint(at=moment, name="")
    done = restore_in_place(host, part, IDENTITY, service, lambda _: None, target=target)
    assert done["counts"]["chat.clock"] == 1
    with connect(host.mongodb) as client:
        assert [d["_id"] for d in client["chat"]["clock"].find()] == ["before"]
        parameters = client.admin.command({"getParameter": 1, "ttlMonitorEnabled": 1})
        assert parameters["ttlMonitorEnabled"] is True
    (made,) = ship(host)
    assert made.begins_chain
    assert "restored" in made.details["lost"]


@dataclass
class SlowService:
    """A service that counts as started before its server answers, as one of systemd's does on a busy machine."""

    service: SandboxService
    data: Path
    seconds: float

    def start(self) -> None:
        self.service.start()
        process = int((self.data / "mongod.lock").read_text())
        os.kill(process, signal.SIGSTOP)
        threading.Timer(self.seconds, os.kill, (process, signal.SIGCONT)).start()

    def stop(self) -> None:
        self.service.stop()


def test_a_restore_waits_for_a_server_that_starts_slowly(host: BackupHost, folder: Path) -> None:
    part = take(host)
    # Longer than a server is given to answer that should be running.
    slow = SlowService(SERVICES[folder], host.with_mongodb()[0].data_directory, 7)
    restore_in_place(host, part, IDENTITY, slow, lambda _: None)
    ship(host)


def test_targets_outside_the_log_are_refused(host: BackupHost, tmp_path: Path) -> None:
    part = take(host)
    ship(host)
    with pytest.raises(UsageError, match="before the point of set"):
        carry_on(host, part, IDENTITY, tmp_path, to("1.1"))
    with pytest.raises(DbkeepError, match="the slices end at"):
        carry_on(host, part, IDENTITY, tmp_path, to("9999999999.1"))


def test_a_missing_or_altered_slice_is_refused_by_name(host: BackupHost, tmp_path: Path) -> None:
    part = take(host)
    made = [ship(host)[0] for _ in range(3)]
    repository = host.settings.repository
    target = to(made[2].last)
    for key in (made[1].key, f"log/mongodb/{made[1].files[0].name}"):
        path = repository / key
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(DbkeepError, match=rf"{made[0].name}.*a slice is missing|{made[1].name}.*missing"):
            carry_on(host, part, IDENTITY, tmp_path, target)
        assert not verify(host, part.set_id, None, "local")["ok"]
        path.write_bytes(content[:60] + bytes([content[60] ^ 4]) + content[61:])
        with pytest.raises(DbkeepError, match=rf"{made[1].name}.*(damaged|altered)"):
            carry_on(host, part, IDENTITY, tmp_path, target)
        found = verify(host, part.set_id, None, "local")
        assert made[1].name in str(found["problems"])
        path.write_bytes(content)
    assert verify(host, part.set_id, None, "local")["ok"]
