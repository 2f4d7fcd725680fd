"""MongoDB's log on a real, secured mongod: slices are cut while transactions run, and a restore goes to any write."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage
import pytest
from bson import json_util
from pymongo.client_session import ClientSession

from dbkeep.backup.log.mongodb import cut, note, position_of
from dbkeep.backup.log.ship import ship as ship_once
from dbkeep.backup.log.ship import ship_every
from dbkeep.backup.log.slices import Slice, local_keys, newest_slice, read_slices
from dbkeep.backup.manifest import Part, RecoveryPoint, read_sets, set_id_of
from dbkeep.backup.mongodb import list_collections, mark, shape
from dbkeep.backup.restore.mongodb import load, open_part
from dbkeep.backup.restore.mongodb import replace as restore_in_place
from dbkeep.backup.restore.replay_mongodb import carry_on
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, DirectoryStoreSettings, MongoDBBackup
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox.mongodb import Security
from dbkeep.sandbox.mongodb_security import issue

from .conftest import SandboxService, backup_settings

IDENTITY = str(pyrage.x25519.Identity.generate())
ACCOUNTS = 40


@contextmanager
def mongodb_host(folder: Path, security: Security | None = None) -> Iterator[BackupHost]:
    """A host that has MongoDB only, with an oplog of the sandbox's 128 MB; SERVICES has what stops and starts it."""
    service = SandboxService(lambda: sandbox.start(folder / "mongo", security=security, initiate=False, cache_gb=0.5))
    service.start()
    try:
        sandbox._initiate(service.settings, security)
        settings = backup_settings(
            folder,
            IDENTITY,
            mongodb=MongoDBBackup(
                data_directory=folder / "mongo" / "data",
                service="mongod",
                keyfile=security.keyfile if security else None,
                os_user="root",
            ),
        )
        for path in (settings.repository, settings.drill_directory):
            path.mkdir(mode=0o711)
        SERVICES[folder] = service
        yield BackupHost(settings, mongodb=service.settings)
    finally:
        service.stop()


SERVICES: dict[Path, SandboxService] = {}


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[BackupHost]:
    with mongodb_host(folder, issue(folder / "security")) as found:
        yield found


def take(host: BackupHost) -> Part:
    time.sleep(1)  # a set's id has whole seconds
    (part,) = run(host, set_id_of(datetime.now(UTC)), ["mongodb"])
    return part


def ship(host: BackupHost) -> list[Slice]:
    return cut(host, newest_slice(host.settings.repository, "mongodb", host.settings.signing_keys))


@contextmanager
def restored(host: BackupHost, part: Part, target: RecoveryPoint, folder: Path) -> Iterator[Client]:
    """A throw-away server that has the part and the log up to the target."""
    with (
        open_part(host.sets / part.set_id / "mongodb", part, IDENTITY, folder) as stream,
        sandbox.start(folder / "copy", unix_socket=True, parameters={"ttlMonitorEnabled": "false"}) as copy,
        connect(copy) as client,
    ):
        load(client, stream, "chat", "dump", carry_on(host, part, IDENTITY, folder, target))
        yield client


def to(position: str) -> RecoveryPoint:
    return RecoveryPoint(at=datetime.now(UTC), name=position)


class Mover:
    """Moves money between two collections, a transaction at a time, and notes the cluster time of each."""

    def __init__(self, host: BackupHost) -> None:
        assert host.mongodb is not None
        self.times: list[str] = []
        self.walls: list[datetime] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(host,))

    def __enter__(self) -> Mover:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, host: BackupHost) -> None:
        with connect(host.mongodb) as client:  # type: ignore[arg-type]
            left, right, ledger = (client["chat"][name] for name in ("left", "right", "ledger"))
            while not self._stop.is_set():
                number = len(self.times)
                source, target = number % ACCOUNTS, (number * 7) % ACCOUNTS
                with client.start_session() as session:
                    with session.start_transaction():
                        left.update_one({"_id": source}, {"$inc": {"sum": -number}}, session=session)
                        right.update_one({"_id": target}, {"$inc": {"sum": number}}, session=session)
                        ledger.insert_one({"_id": number}, session=session)
                    assert session.operation_time is not None
                    self.times.append(position_of(session.operation_time))
                self.walls.append(datetime.now(UTC))


def sums(moves: int) -> tuple[dict[int, int], dict[int, int]]:
    """What left and right hold after so many moves."""
    left = dict.fromkeys(range(ACCOUNTS), 0)
    right = dict.fromkeys(range(ACCOUNTS), 0)
    for number in range(moves):
        left[number % ACCOUNTS] -= number
        right[(number * 7) % ACCOUNTS] += number
    return left, right


def observed(client: Client) -> tuple[dict[int, int], dict[int, int]]:
    left, right = ({d["_id"]: d["sum"] for d in client["chat"][name].find()} for name in ("left", "right"))
    return left, right


def fill(host: BackupHost) -> None:
    assert host.mongodb is not None
    with connect(host.mongodb) as client:
        for name in ("left", "right"):
            client["chat"].drop_collection(name)
            client["chat"][name].insert_many([{"_id": n, "sum": 0} for n in range(ACCOUNTS)])
        client["chat"].drop_collection("ledger")


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


def documents_and_indexes(client: Client) -> None:
    database = client["chat"]
    strict = {"$jsonSchema": {"required": ["n"]}}
    database.create_collection("shaped", validator=strict)
    database["shaped"].insert_many([{"_id": n, "n": n, "tags": [1, 2]} for n in range(200)])
    database["shaped"].create_index([("n", -1)], name="by_n", unique=True)
    database["shaped"].create_index("tags", name="gone")
    database["shaped"].update_many({"n": {"$lt": 50}}, {"$push": {"tags": 3}, "$unset": {"x": 1}})
    database["shaped"].drop_index("gone")
    database.command({"collMod": "shaped", "validator": {"n": {"$gte": 0}}, "validationLevel": "moderate"})
    database.command({"collMod": "shaped", "index": {"name": "by_n", "hidden": True}})
    # The validator of later would refuse it: validators are for writers, not for a replay.
    database.command({"collMod": "shaped", "validator": {"n": {"$lt": 1}}, "validationLevel": "strict"})
    database["expiring"].create_index("at", expireAfterSeconds=0)
    database["expiring"].insert_one({"_id": 1, "at": datetime(2090, 1, 1, tzinfo=UTC)})


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


def test_a_restore_in_place_goes_to_a_wall_clock_time_and_starts_a_new_chain(host: BackupHost) -> None:
    assert host.mongodb is not None
    part = take(host)
    with connect(host.mongodb) as client:
        client["chat"]["clock"].insert_one({"_id": "before"})
        time.sleep(0.05)
        moment = datetime.now(UTC)
        time.sleep(0.05)
        client["chat"]["clock"].insert_one({"_id": "after"})
    ship(host)
    service = next(iter(SERVICES.values()))
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


def test_a_restore_waits_for_a_server_that_starts_slowly(host: BackupHost) -> None:
    part = take(host)
    # Longer than a server is given to answer that should be running.
    slow = SlowService(next(iter(SERVICES.values())), host.with_mongodb()[0].data_directory, 7)
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


def test_a_slicer_that_is_killed_goes_on_without_a_gap(host: BackupHost, tmp_path: Path) -> None:
    fill(host)
    part = take(host)
    dice = random.Random(4711)  # noqa: S311 - the same moments in every run
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "dbkeep.backup.log.ship", "dbkeep.backup.log.mongodb"])
    killed, seconds = 0, 1.0
    with Mover(host) as mover:
        for _ in range(60):
            process = context.Process(target=ship_once, args=(host,))
            began = time.monotonic()
            process.start()
            process.join(dice.uniform(0.05, 1.0) * seconds)
            if process.is_alive():
                killed += 1
            else:
                # How long a whole cut takes is the machine's, and changes with what else it does.
                seconds = time.monotonic() - began
            process.kill()
            process.join()
            if killed >= 6:
                break
    ship(host)
    assert killed >= 6, "no cut was killed"
    assert mover.times
    with restored(host, part, to(mover.times[-1]), tmp_path) as client:
        assert client["chat"]["ledger"].count_documents({}) == len(mover.times)
        assert observed(client) == sums(len(mover.times))
    folder = host.settings.repository / "log" / "mongodb"
    records = read_slices(host.settings.repository, "mongodb", host.settings.signing_keys)
    named = {stored.name for found in records for stored in found.files} | {f"{found.name}.json" for found in records}
    assert {path.name for path in folder.iterdir()} == named


@pytest.mark.long
def test_an_oplog_that_rolled_over_is_loud_and_a_new_set_is_taken(host: BackupHost, tmp_path: Path) -> None:
    assert host.mongodb is not None
    take(host)
    assert ship_once(host)["mongodb"] is not None
    newest = newest_slice(host.settings.repository, "mongodb", host.settings.signing_keys)
    assert newest is not None
    with connect(host.mongodb) as client:
        roll_over(client)
        with pytest.raises(DbkeepError, match=r"engine mongodb: .*rolled over before it was archived.*new set"):
            ship_once(host)
        (part,) = [parts["mongodb"] for parts in read_sets(host.sets, host.settings.signing_keys)][-1:]
        assert part.recovery_point.at > newest.ended_at
        client["chat"]["after"].insert_one({"_id": 1})
        position = mark(host, "a point").name
    assert ship_once(host)["mongodb"] is not None, "with the new set the log is whole again"
    with restored(host, part, to(position), tmp_path) as client:
        assert client["chat"]["after"].count_documents({}) == 1


def roll_over(client: Client) -> None:
    """Write until the oldest entry of the oplog is newer than what was newest."""
    last = client.local["oplog.rs"].find_one(sort=[("$natural", -1)])
    assert last is not None
    text = "x" * (8 << 20)
    number, deadline = 0, time.monotonic() + 120
    while client.local["oplog.rs"].find_one({"ts": last["ts"]}):
        assert time.monotonic() < deadline, "the oplog does not roll over"
        number += 1
        client["chat"]["filling"].replace_one({"_id": 1}, {"text": f"{number} {text}"}, upsert=True)
        if number % 8 == 0:
            client.admin.command("fsync")  # what no checkpoint has is not rolled over


def test_a_store_that_was_down_gets_all_and_a_lost_copy_comes_again(host: BackupHost, tmp_path: Path) -> None:
    root = tmp_path / "nas"
    store = DirectoryStoreSettings(type="directory", name="nas", path=root)
    away = replace(host, settings=host.settings.model_copy(update={"stores": (store,)}))
    for _ in range(2):
        with pytest.raises(DbkeepError, match=r"store nas: .*cannot be used"):
            ship_once(away)
    made = newest_slice(host.settings.repository, "mongodb", host.settings.signing_keys)
    root.mkdir()
    assert ship_once(away)["mongodb"] is not None
    there = {str(path.relative_to(root)) for path in root.rglob("*.json")}
    assert there == set(local_keys(host.settings.repository, "mongodb"))
    assert made is not None
    for name in (made.key, f"log/mongodb/{made.files[0].name}"):
        (root / made.key).unlink()
        (root / name).unlink(missing_ok=True)
        ship_once(away)
        assert (root / made.key).read_bytes() == (host.settings.repository / made.key).read_bytes()
        assert (root / "log/mongodb" / made.files[0].name).stat().st_size == made.files[0].size


def test_a_running_shipper_goes_on_when_the_server_is_back(host: BackupHost) -> None:
    service = next(iter(SERVICES.values()))
    said: list[str] = []
    stop = threading.Event()
    shipping = threading.Thread(target=ship_every, args=(host, 0.2, stop), kwargs={"progress": said.append})
    service.stop()
    shipping.start()
    try:
        wait_until(lambda: any("FAILED" in line for line in said))
        service.start()
        wait_until(lambda: any("works again" in line for line in said))
    finally:
        stop.set()
        shipping.join()
    assert sum("FAILED" in line for line in said) <= 3, "what fails is said once, not every round"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
