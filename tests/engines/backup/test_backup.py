"""A set is taken, holds what it says, opens only with its identity and shows every damage."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pyrage
import pytest
from bson import decode

from dbkeep.backup.archive_format import Reader
from dbkeep.backup.drill.run import drill
from dbkeep.backup.lock import BusyError, hold
from dbkeep.backup.manifest import FILE_NAME, Part, read_part, read_sets, set_ids
from dbkeep.backup.restore.mongodb import open_part
from dbkeep.backup.run import LOCK, run
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import read_all
from dbkeep.mongodb.connect import connect as mongodb

from .conftest import CANARY, Site


@pytest.fixture(scope="module")
def parts(site: Site) -> dict[str, Part]:
    return site.take()


def test_a_set_has_a_part_of_every_engine_with_its_counts(site: Site, parts: dict[str, Part]) -> None:
    counts = {name: str(count) for part in parts.values() for name, count in part.counts.items()}
    assert counts == {
        "chat.users": "1200",
        "chat.tokens": "1",
        "chat.messages": "2500",
        "chat.notifications": "1",
        "chat.empty": "0",
        "state/sess:": "300",
        "state/pres:": "7",
    }
    assert parts["redis"].not_backed_up == ("cache",)
    assert parts["redis"].details["keys"] == 307
    assert read_part(site.host.sets, parts["redis"].set_id, "redis", site.host.settings.signing_keys) == parts["redis"]


def test_the_engines_are_fenced_within_a_second(parts: dict[str, Part]) -> None:
    moments = [part.recovery_point.at for part in parts.values()]
    assert (max(moments) - min(moments)).total_seconds() < 1


def test_nothing_is_stored_in_clear_text(site: Site, parts: dict[str, Part]) -> None:
    files = [path for path in site.host.settings.repository.rglob("*") if path.is_file()]
    assert len(files) >= 10
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert all(path.stat().st_mode & 0o077 == 0 for path in (site.host.sets / parts["redis"].set_id).rglob("*.*"))


def test_a_drill_proves_the_set_and_leaves_nothing(site: Site, parts: dict[str, Part]) -> None:
    evidence = drill(site.host, "newest", None, site.identity)
    failed = {
        engine: result["error"] or [a for a in result["assertions"] if not a["holds"]]
        for engine, result in evidence["observed"]["engines"].items()
    }
    assert failed == {"postgresql": [], "mongodb": [], "redis": []}
    assert evidence["result"] == "passed"
    assert evidence["observed"]["set_id"] == parts["redis"].set_id
    assert evidence["observed"]["rto_seconds"] > 0
    seen = {a["what"]: a["observed"] for a in evidence["observed"]["engines"]["postgresql"]["assertions"]}
    assert seen["rows app_api sees of chat.users with no user set, of 1200"] == 0
    assert seen["rows app_api sees of chat.tokens with no user set, of 1"] == "denied"
    assert [path.name for path in site.host.settings.drill_directory.iterdir()] == [LOCK]
    stored = list(site.host.settings.evidence.glob("drill-*.json"))
    assert json.loads(stored[-1].read_text())["result"] == "passed"
    assert site.identity not in stored[-1].read_text()


def test_a_drill_with_another_identity_is_refused(site: Site, parts: dict[str, Part]) -> None:
    evidence = drill(site.host, parts["redis"].set_id, ["mongodb", "redis"], str(pyrage.x25519.Identity.generate()))
    assert evidence["result"] == "failed"
    for result in evidence["observed"]["engines"].values():
        assert "the identity does not open it" in result["error"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES = [(flip, "altered"), (truncate, "truncated"), (Path.unlink, "missing")]


@pytest.fixture
def damaged(site: Site, parts: dict[str, Part], request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Damage the stored file of one engine's part during the test; gives the engine and what must be said."""
    engine, (damage, word) = request.param
    path = site.file(parts[engine])
    content = path.read_bytes()
    damage(path)
    yield engine, word
    path.write_bytes(content)


@pytest.mark.parametrize("damaged", [(e, d) for e in ("mongodb", "redis") for d in DAMAGES], indirect=True)
def test_a_damaged_file_is_refused_by_drill_and_verify(
    site: Site, parts: dict[str, Part], damaged: tuple[str, str]
) -> None:
    engine, word = damaged
    evidence = drill(site.host, parts[engine].set_id, [engine], site.identity)
    assert evidence["result"] == "failed"
    assert f"{site.file(parts[engine])}: {word}" in evidence["observed"]["engines"][engine]["error"]
    found = verify(site.host, parts[engine].set_id)
    assert not found["ok"]
    assert [name for name, problems in found["problems"].items() if problems] == [engine]
    assert word in found["problems"][engine][0]


@pytest.fixture
def damaged_repository(site: Site, request: pytest.FixtureRequest) -> Iterator[str]:
    """Damage one file of pgBackRest's repository during the test; gives what must be said of it."""
    pattern, damage, words = request.param
    path = max(site.host.settings.repository.joinpath("postgresql").glob(pattern))
    content, status = path.read_bytes(), path.stat()
    damage(path)
    yield words
    path.write_bytes(content)
    os.chown(path, status.st_uid, status.st_gid)


BUNDLE, SEGMENT = "backup/chat/*/bundle/*", "archive/chat/*/*/0*.zst"
REPOSITORY_DAMAGES = [
    (BUNDLE, flip, "files checksum invalid"),
    (BUNDLE, truncate, "files"),
    (BUNDLE, Path.unlink, "files missing"),
    (SEGMENT, Path.unlink, "WAL segment"),
]


@pytest.mark.parametrize("damaged_repository", REPOSITORY_DAMAGES, indirect=True)
def test_a_damaged_repository_is_found_although_pgbackrest_exits_0(
    site: Site, parts: dict[str, Part], damaged_repository: str
) -> None:
    found = verify(site.host, parts["postgresql"].set_id)
    assert [problem for problem in found["problems"]["postgresql"] if damaged_repository in problem], found


@pytest.mark.parametrize("damaged_repository", REPOSITORY_DAMAGES[:1], indirect=True)
@pytest.mark.usefixtures("damaged_repository")
def test_a_damaged_repository_fails_its_drill(site: Site, parts: dict[str, Part]) -> None:
    evidence = drill(site.host, parts["postgresql"].set_id, ["postgresql"], site.identity)
    assert evidence["result"] == "failed"
    error = evidence["observed"]["engines"]["postgresql"]["error"]
    assert "pgbackrest restore of stanza chat failed: ERROR: [0" in error


def test_a_second_run_at_the_same_time_is_refused(site: Site, parts: dict[str, Part]) -> None:
    refusal = pytest.raises(BusyError, match=r"\.lock: held by process \d+ \(backup of set X\)")
    with hold(site.host.settings.repository / LOCK, "backup of set X"), refusal:
        site.take(("redis",))
    with pytest.raises(UsageError, match="already has redis"):
        run(site.host, parts["redis"].set_id, ["redis"])


def test_a_timers_run_waits_for_the_one_that_is_under_way(site: Site) -> None:
    begun, ended = Event(), Event()

    def another() -> None:
        with hold(site.host.settings.repository / LOCK, "backup of set X"):
            begun.set()
            ended.wait(60)

    with ThreadPoolExecutor(2) as beside:
        other = beside.submit(another)
        assert begun.wait(60)
        waiting = beside.submit(run, site.host, None, ["redis"])
        try:
            with pytest.raises(TimeoutError):
                waiting.result(1)
        finally:
            ended.set()
        other.result()
        assert [part.engine for part in waiting.result()] == ["redis"]


def test_an_engine_that_fails_does_not_stop_the_others_and_is_loud(site: Site) -> None:
    site.services["redis"].stop()
    try:
        with pytest.raises(
            DbkeepError, match=r"redis: redis state: .*is redis-server@state running\? \(mongodb is complete\)"
        ):
            site.take(("mongodb", "redis"))
    finally:
        site.services["redis"].start()
    newest = read_sets(site.host.sets, site.host.settings.signing_keys)[-1]
    assert list(newest) == ["mongodb"]
    assert not (site.host.sets / newest["mongodb"].set_id / "redis").exists()
    (record,) = [r for r in read_all("backup", site.host.settings.evidence) if r["result"] == "failed"]
    assert list(record["observed"]["failed"]) == ["redis"]


def test_what_a_killed_run_left_goes_with_the_next_run(site: Site) -> None:
    left = site.host.sets / "20260101T000000Z" / "mongodb"
    left.mkdir(parents=True)
    (left / "dump.archive.zst.age.partial").write_bytes(b"half")
    taken = site.take(("redis",))
    assert "20260101T000000Z" not in set_ids(site.host.sets)
    assert (site.host.sets / taken["redis"].set_id / "redis" / FILE_NAME).exists()


def test_a_dump_is_of_one_moment_while_transactions_move_money(site: Site) -> None:
    assert site.host.mongodb is not None
    stop = threading.Event()
    with mongodb(site.host.mongodb) as client:
        left, right = client["chat"]["left"], client["chat"]["right"]
        left.insert_many([{"_id": n, "sum": 100} for n in range(3000)])
        right.insert_many([{"_id": n, "sum": 100} for n in range(3000)])

        def move() -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                with client.start_session() as session, session.start_transaction():
                    left.update_one({"_id": turn % 3000}, {"$inc": {"sum": -1}}, session=session)
                    right.update_one({"_id": 2999 - turn % 3000}, {"$inc": {"sum": 1}}, session=session)

        writer = threading.Thread(target=move)
        writer.start()
        try:
            part = site.take(("mongodb",))["mongodb"]
        finally:
            stop.set()
            writer.join()
        left.drop()
        right.drop()
    sums = dict.fromkeys(("left", "right"), 0)
    with open_part(site.host.sets / part.set_id / "mongodb", part, site.identity, site.folder) as stream:
        for (_, collection), documents in Reader(stream, "dump").batches():
            if collection in sums:
                sums[collection] += sum(decode(document)["sum"] for document in documents)
    assert sums["left"] + sums["right"] == 600_000
    assert sums["left"] < 300_000
