"""MongoDB's log on a real, secured mongod: slices are cut while transactions run, and a restore goes to any write."""

from __future__ import annotations

import json
import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest
from bson import decode_all, json_util
from pymongo.errors import PyMongoError

from dbkeep.backup.log_mongodb import cut, note, position_of
from dbkeep.backup.manifest import Part, RecoveryPoint, set_id_of
from dbkeep.backup.mongodb import list_collections, mark, shape
from dbkeep.backup.replay_mongodb import carry_on
from dbkeep.backup.restore_mongodb import load, open_part, replace as restore_in_place
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost, BackupSettings, MongoDBBackup
from dbkeep.backup.slices import Slice, newest_slice, read_slices
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox.mongodb import Security
from dbkeep.sandbox.mongodb_security import issue
from dbkeep.secrets import age_recipient

from .conftest import SandboxService

IDENTITY = str(pyrage.x25519.Identity.generate())
ACCOUNTS = 40


@contextmanager
def mongodb_host(folder: Path, security: Security | None = None, oplog_mb: int = 990) -> Iterator[BackupHost]:
    """A host that has MongoDB only, with a service that a restore can stop and start as `host.service`."""
    service = SandboxService(
        lambda: sandbox.start(
            folder / "mongo", security=security, initiate=False, options={"--oplogSize": str(oplog_mb)}
        )
    )
    service.start()
    try:
        sandbox._initiate(service.settings, security)
        settings = BackupSettings(
            repository=folder / "backup",
            evidence=folder / "evidence",
            drill_directory=folder / "drill",
            recipients=(age_recipient(IDENTITY),),
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
    return cut(host, newest_slice(host.settings.repository, "mongodb"))


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
    for number in (at_set, (at_set + until) // 2, until):
        workspace = tmp_path / str(number)
        workspace.mkdir()
        with restored(host, part, to(mover.times[number]), workspace) as client:
            assert client["chat"]["ledger"].count_documents({}) == number + 1
            assert client["chat"]["ledger"].find_one(sort=[("_id", -1)]) == {"_id": number}
            assert observed(client) == sums(number + 1)
