"""One moment over three engines: a writer never stops, and a restore finds it in all of them at the same number."""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pymongo.write_concern import WriteConcern

from dbkeep.backup import references
from dbkeep.backup.lock import BusyError
from dbkeep.backup.points import Point, mark, read_points
from dbkeep.backup.points_catalog import points_catalog
from dbkeep.backup.restore import plan, restore
from dbkeep.backup.restore_beside import how_to_reach, restore_beside, serving
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.slices import newest_slice
from dbkeep.backup.target import Target
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis

from .conftest import Site, make_site

A_SECOND = 200
LIST = "sess:written"
USERS = [str(uuid.UUID(int=number, version=4)) for number in range(3)]
NOBODY = str(uuid.UUID(int=99, version=4))


@dataclass
class Writer:
    """Writes each number to all three engines, one after the other, and knows when it began and ended each."""

    site: Site
    began: list[datetime] = field(default_factory=list)
    ended: list[datetime] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        host = self.site.host
        assert host.postgresql is not None
        assert host.mongodb is not None
        with postgresql(host.postgresql) as pg, mongodb(host.mongodb) as client, redis(*self.site.state()) as state:
            numbers = client["chat"].get_collection("written", write_concern=WriteConcern("majority"))
            while not self.stop.is_set():
                number = len(self.began) + 1
                self.began.append(datetime.now(UTC))
                pg.execute("INSERT INTO chat.written VALUES (%s)", [number])
                numbers.insert_one({"_id": number})
                state.rpush(LIST, number)
                self.ended.append(datetime.now(UTC))
                time.sleep(max(0.0, 1 / A_SECOND - (self.ended[-1] - self.began[-1]).total_seconds()))

    def between(self, began: datetime, at: datetime) -> range:
        """Return the numbers that an engine may have whose fence was set between two moments."""
        return range(bisect_right(self.ended, began), bisect_right(self.began, at) + 1)


@contextmanager
def writing(site: Site) -> Iterator[Writer]:
    writer = Writer(site)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop.set()
        thread.join()
    assert len(writer.ended) > A_SECOND, "the writer failed"


def fill(site: Site) -> None:
    """Users, and who names them: a message, a participant and two sessions name users that do not exist."""
    host = site.host
    assert host.postgresql is not None
    assert host.mongodb is not None
    with postgresql(host.postgresql) as connection:
        for user in USERS:
            connection.execute("INSERT INTO chat.users VALUES (%s)", [user])
    with mongodb(host.mongodb) as client:
        database = client["chat"]
        database["messages"].insert_many([{"_id": n, "sender_id": USERS[n % 3]} for n in range(9)])
        database["messages"].insert_one({"_id": "lost", "sender_id": NOBODY})
        database["conversations"].insert_one({"_id": "pair", "participants": [USERS[0], NOBODY]})
    with redis(*site.state()) as state:
        for number, user in enumerate([*USERS, NOBODY, "no uuid"]):
            state.set(f"sess:{number}", user, ex=86400)


def numbers_in(host: BackupHost) -> dict[str, int]:
    """How many numbers each engine has, after seeing that they are 1, 2, 3 ... without a gap."""
    assert host.postgresql is not None
    assert host.mongodb is not None
    with postgresql(host.postgresql) as connection:
        in_postgresql = [row[0] for row in connection.execute("SELECT number FROM chat.written ORDER BY 1")]
    with mongodb(host.mongodb) as client:
        in_mongodb = [found["_id"] for found in client["chat"]["written"].find().sort("_id", 1)]
    assert host.redis is not None
    with redis("state", host.redis.instances["state"]) as state:
        in_redis = [int(number) for number in state.lrange(LIST, 0, -1)]
    for found in (in_postgresql, in_mongodb, in_redis):
        assert found == list(range(1, len(found) + 1))
    return {"postgresql": len(in_postgresql), "mongodb": len(in_mongodb), "redis": len(in_redis)}


def seal(site: Site) -> None:
    """One round of what is shipped: each engine's log up to now."""
    for engine in site.host.engines:
        newest = newest_slice(site.host.settings.repository, engine, site.host.settings.signing_keys)
        import_module(f"dbkeep.backup.log_{engine}").cut(site.host, newest)


@dataclass
class Written:
    """What was written before anything was restored, the points meanwhile, and a second in the middle."""

    site: Site
    writer: Writer
    points: list[Point]
    second: datetime
    set_id: str


@pytest.fixture(scope="module")
def written(folder: Path) -> Iterator[Written]:
    with make_site(folder) as site:
        assert site.host.settings.postgresql is not None
        at_once = site.host.settings.postgresql.model_copy(update={"archive_seconds": 0})
        site.host = replace(site.host, settings=site.host.settings.model_copy(update={"postgresql": at_once}))
        assert site.host.postgresql is not None
        with postgresql(site.host.postgresql, "postgres") as connection:
            connection.execute("CREATE DATABASE chat")
        with postgresql(site.host.postgresql) as connection:
            connection.execute("CREATE SCHEMA chat")
            connection.execute("CREATE ROLE app_api NOLOGIN")
            connection.execute("CREATE TABLE chat.users (id uuid PRIMARY KEY)")
            connection.execute("CREATE TABLE chat.written (number int PRIMARY KEY)")
        fill(site)
        with writing(site) as writer:
            set_id = site.take()["redis"].set_id
            seal(site)
            points = [mark(site.host, f"try-{number}") for number in range(3)]
            time.sleep(1.2)
            second = datetime.now(UTC).replace(microsecond=0)
            time.sleep(1.2)
            points.append(mark(site.host, "late"))
            seal(site)
        yield Written(site, writer, points, second, set_id)


def test_a_point_is_one_moment_and_says_how_far_apart_its_engines_are(written: Written) -> None:
    for point in written.points:
        assert sorted(point.fences) == ["mongodb", "postgresql", "redis"]
        moments = [fence.at for fence in point.fences.values()]
        assert point.began_at <= min(moments)
        assert point.skew_seconds == pytest.approx((max(moments) - point.began_at).total_seconds())
    assert [point.name for point in read_points(written.site.host)] == ["try-0", "try-1", "try-2", "late"]
    listed = points_catalog(written.site.host)
    assert listed["errors"] == []
    assert [row["restorable_from"] for row in listed["points"]] == [["local"]] * 4


@pytest.mark.parametrize("name", ["try-1", "late", pytest.param("try-2", marks=pytest.mark.long)])
def test_a_restore_to_a_point_finds_all_engines_in_its_window(written: Written, name: str) -> None:
    site, writer = written.site, written.writer
    (point,) = (point for point in written.points if point.name == name)
    shown = plan(site.host, Target(point=name))
    assert {row["set_id"] for row in shown["parts"]} == {written.set_id}
    assert shown["skew_seconds"] == point.skew_seconds

    evidence = restore(site.host, Target(point=name), None, site.identity, services=site.services)

    assert evidence["observed"]["skew_seconds"] == point.skew_seconds
    allowed = writer.between(point.began_at, point.at)
    found = numbers_in(site.host)
    assert set(found.values()) <= set(allowed), (found, allowed)


def test_a_restore_to_a_second_finds_what_was_written_when_it_began(written: Written) -> None:
    site, writer = written.site, written.writer
    refused: list[str] = []

    def meanwhile(_: str) -> None:
        for second in (lambda: restore(site.host, "newest", None, site.identity), lambda: mark(site.host, "meanwhile")):
            with pytest.raises(BusyError) as error:
                second()
            refused.append(str(error.value))

    target = Target(to=written.second)
    evidence = restore(site.host, target, None, site.identity, services=site.services, progress=meanwhile)
    assert refused
    assert all(f"(restore to time {written.second.isoformat()})" in line and "\n" not in line for line in refused)
    began = datetime.fromisoformat(evidence["observed"]["began"])
    assert written.second - began == timedelta(seconds=1)
    found, allowed = numbers_in(site.host), writer.between(began, written.second)
    assert set(found.values()) <= set(allowed), (found, allowed)
    assert len(allowed) < len(writer.ended)


def test_a_restore_beside_touches_nothing_live_and_lists_what_dangles(
    written: Written, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, writer = written.site, written.writer
    before, (point,) = numbers_in(site.host), (point for point in written.points if point.name == "try-0")
    with pytest.raises(UsageError, match="which is in use"):
        beside(site, "try-0", folder / "backup" / "look")
    look = folder / "look"
    evidence = beside(site, "try-0", look)
    assert numbers_in(site.host) == before
    observed = evidence["observed"]
    assert set(observed["counts"]) == {"postgresql", "mongodb", "redis"}
    found = {row["reference"]: row for row in observed["references"] if row["dangling"]}
    assert {name: (row["dangling"], row["missing_users"]) for name, row in found.items()} == {
        "messages.sender_id": (1, 1),
        "conversations.participants": (1, 1),
        "sess:": (2, 2),
    }
    assert found["messages.sender_id"]["examples"] == [{"user": NOBODY, "document": "lost"}]
    assert "sess:3" not in str(observed["references"]), "the key of a session is a secret"
    assert observed["dangling"] == 4

    with serving(site.host, look) as copies:
        assert set(numbers_in(copies).values()) <= set(writer.between(point.began_at, point.at))
        assert copies.postgresql is not None
        with postgresql(copies.postgresql) as connection:
            assert connection.execute("SHOW archive_mode").fetchone() == ("off",)
        assert len(how_to_reach(copies)) == 3
        monkeypatch.setattr(references, "PAGE", 2)
        monkeypatch.setattr(references, "SCAN_COUNT", 1)
        by_pages = {finding.reference: finding for finding in references.compare_here(copies)}
        for row in observed["references"]:
            finding = by_pages[row["reference"]]
            assert (finding.dangling, finding.missing_users) == (row["dangling"], row["missing_users"])
    with pytest.raises(UsageError, match="not an empty folder"):
        beside(site, "try-0", look)


def beside(site: Site, point: str, look: Path) -> dict[str, Any]:
    return restore_beside(site.host, Target(point=point), (), site.identity, look)


def test_what_came_after_a_restore_needs_a_new_set(written: Written) -> None:
    site = written.site
    restore(site.host, written.set_id, None, site.identity, services=site.services)
    point = mark(site.host, "after")
    seal(site)
    assert points_catalog(site.host)["points"][-1]["restorable_from"] == []
    with pytest.raises(DbkeepError, match=r"gap|later set|earlier"):
        restore(site.host, Target(point=point.name), None, site.identity, services=site.services)
    site.take()
    mark(site.host, "again")
    seal(site)
    assert points_catalog(site.host)["points"][-1]["restorable_from"] == ["local"]
    restore(site.host, Target(point="again"), None, site.identity, services=site.services)
