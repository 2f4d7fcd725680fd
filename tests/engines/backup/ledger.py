"""Money that moves between two collections of MongoDB in transactions: what a restore must never show half of."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from dbkeep.backup.log.mongodb import position_of
from dbkeep.backup.settings import BackupHost
from dbkeep.mongodb.connect import Client, connect

ACCOUNTS = 40


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
