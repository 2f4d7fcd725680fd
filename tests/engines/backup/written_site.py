"""A host that was written to without a pause while a set was taken and points were set: what restores are tried on."""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from pymongo.write_concern import WriteConcern

from dbkeep.backup.log.slices import newest_slice
from dbkeep.backup.points import Point, mark
from dbkeep.backup.settings import BackupHost
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
        import_module(f"dbkeep.backup.log.{engine}").cut(site.host, newest)


@dataclass
class Written:
    """What was written before anything was restored, the points meanwhile, and a second in the middle."""

    site: Site
    writer: Writer
    points: list[Point]
    second: datetime
    set_id: str


@contextmanager
def make_written(folder: Path) -> Iterator[Written]:
    """A host below `folder` where a writer went on while a set was taken, four points were set and the log sealed."""
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
