"""MongoDB's log goes on whatever happens to slicer, server, store and oplog."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dbkeep.backup.log.ship import ship as ship_once
from dbkeep.backup.log.ship import ship_every
from dbkeep.backup.log.slices import local_keys, newest_slice, read_slices
from dbkeep.backup.manifest import read_sets
from dbkeep.backup.mongodb import mark
from dbkeep.backup.settings import BackupHost, DirectoryStoreSettings
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox.mongodb_security import issue

from .ledger import Mover, fill, observed, sums
from .mongodb_log_host import SERVICES, mongodb_host, restored, ship, take, to


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[BackupHost]:
    with mongodb_host(folder, issue(folder / "security")) as found:
        yield found


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


def test_a_running_shipper_goes_on_when_the_server_is_back(host: BackupHost, folder: Path) -> None:
    service = SERVICES[folder]
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
