"""The clock of a host with all three engines jumps two days ahead and back: no set is lost, and the log goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbkeep.backup.log.ship import ship
from dbkeep.backup.manifest import part_engines, set_ids
from dbkeep.backup.points import mark
from dbkeep.backup.points_catalog import points_catalog
from dbkeep.backup.prune import prune_all
from dbkeep.backup.restore.beside import restore_beside, serving
from dbkeep.backup.restore.target import Target
from dbkeep.backup.run import run
from dbkeep.backup.settings import LOCAL, DirectoryStoreSettings
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis

from .conftest import Site, fill, make_site
from .moved_clock import Clock, faked, moved_agent, set_clock

AHEAD = timedelta(days=2)
pytestmark = pytest.mark.long


@dataclass
class Agent:
    """The agent and the servers of a host whose clock the test sets."""

    site: Site
    clock: Path

    def set_clock(self, offset: timedelta) -> None:
        set_clock(self.clock, offset)

    def take(self) -> str:
        return run(self.site.host, None)[0].set_id

    def ship(self) -> str:
        """Do one round and return what it has to complain of."""
        try:
            ship(self.site.host)
        except DbkeepError as error:
            return str(error)
        return ""

    def point(self, name: str) -> None:
        mark(self.site.host, name)
        self.ship()


@pytest.fixture
def agent(folder: Path) -> Iterator[Agent]:
    clock = folder / "clock"
    clock.write_text("+0d\n")
    with ExitStack() as stack:
        with faked(clock):
            site = stack.enter_context(make_site(folder))
        stack.enter_context(moved_agent())
        fill(site)
        settings = site.host.settings
        assert settings.postgresql is not None
        at_once = settings.postgresql.model_copy(update={"archive_seconds": 0})
        # A day's sets and no more: whoever believes the clock lets the earlier ones go.
        store = DirectoryStoreSettings(type="directory", name="second", path=folder / "second")
        store.path.mkdir()
        changed = {"postgresql": at_once, "slot_minutes": 0, "keep_days": 1, "keep_minimum": 1, "stores": (store,)}
        site.host = replace(site.host, settings=settings.model_copy(update=changed))
        yield Agent(site, clock)
        # With that library it does not end by itself.
        os.kill(int((folder / "mongo/data/mongod.lock").read_text()), signal.SIGKILL)


def write(site: Site, number: int) -> None:
    host = site.host
    assert host.postgresql is not None
    assert host.mongodb is not None
    with postgresql(host.postgresql) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS chat.numbers (number int)")
        connection.execute("INSERT INTO chat.numbers VALUES (%s)", [number])
    with mongodb(host.mongodb) as client:
        client["chat"]["numbers"].insert_one({"_id": number})
    with redis(*site.state()) as client:
        client.rpush("sess:numbers", number)


def numbers_at(agent: Agent, target: Target, folder: Path, store: str = LOCAL) -> dict[str, list[int]]:
    """Restore beside what runs, and return the numbers in each engine."""
    restore_beside(agent.site.host, target, (), agent.site.identity, folder, store=store)
    found = {}
    with serving(agent.site.host, folder) as copies:
        if copies.postgresql:
            with postgresql(copies.postgresql) as sql:
                found["postgresql"] = [row[0] for row in sql.execute("SELECT number FROM chat.numbers ORDER BY 1")]
        if copies.mongodb:
            with mongodb(copies.mongodb) as mongo:
                found["mongodb"] = [each["_id"] for each in mongo["chat"]["numbers"].find().sort("_id", 1)]
        if copies.redis:
            with redis("state", copies.redis.instances["state"]) as client:
                found["redis"] = [int(number) for number in client.lrange("sess:numbers", 0, -1)]
    return found


def second() -> datetime:
    """Return a second of the site's clock that everything written before is before, and nothing that is written now."""
    time.sleep(1.1)
    moment = Clock.now(UTC).replace(microsecond=0)
    time.sleep(1.1)
    return moment


def everywhere(*numbers: int) -> dict[str, list[int]]:
    return {engine: list(numbers) for engine in ("mongodb", "postgresql", "redis")}


def test_a_clock_that_jumps_ahead_and_back_costs_no_set_and_no_moment(agent: Agent, folder: Path) -> None:
    site = agent.site
    write(site, 1)
    sets = [agent.take()]
    assert agent.ship() == ""
    write(site, 2)
    agent.point("before")

    agent.set_clock(AHEAD)
    write(site, 3)
    sets.append(agent.take())
    assert agent.ship() == ""
    agent.point("ahead")

    agent.set_clock(timedelta())
    write(site, 4)
    lines: list[str] = []
    mark(site.host, "back")
    ship(site.host, progress=lines.append)
    assert sum("WARNING: the clock was set back from" in line for line in lines) == 3
    between = second()
    write(site, 5)
    assert agent.ship() == ""
    with pytest.raises(UsageError, match="the clock was set back after set"):
        numbers_at(agent, Target(to=between), folder / "between")
    sets.append(agent.take())
    write(site, 6)
    after = second()
    write(site, 7)
    assert agent.ship() == ""
    agent.point("later")
    write(site, 8)
    assert agent.ship() == ""

    assert prune_all(site.host)["removed"] == {"local": [], "second": []}
    assert sorted(sets) == set_ids(site.host.sets)
    for set_id in sets:
        found = verify(site.host, set_id)
        assert found["ok"], found["problems"]
        assert part_engines(site.host.sets, set_id) == sorted(everywhere())
    listed = {point["name"]: point["restorable_from"] for point in points_catalog(site.host)["points"]}
    assert listed == {name: ["local", "second"] for name in ("before", "ahead", "back", "later")}
    expected = {
        Target(point="before"): [1, 2],
        Target(set_id=sets[1]): [1, 2, 3],
        Target(point="back"): [1, 2, 3, 4],
        Target(): [1, 2, 3, 4, 5],
        Target(to=after): [1, 2, 3, 4, 5, 6],
        Target(point="later"): [1, 2, 3, 4, 5, 6, 7],
    }
    for number, (target, numbers) in enumerate(expected.items()):
        for store in ("second", "local"):
            assert numbers_at(agent, target, folder / f"{store}{number}", store=store) == everywhere(*numbers), target

    agent.set_clock(timedelta(days=3))
    sets.append(agent.take())
    assert agent.ship() == ""
    write(site, 9)
    passed = second()
    write(site, 10)
    assert agent.ship() == ""
    assert numbers_at(agent, Target(), folder / "passed") == everywhere(*range(1, 9))
    # Redis does not run under the library.
    found = numbers_at(agent, Target(to=passed), folder / "to-passed")
    assert (found["mongodb"], found["postgresql"]) == ([*range(1, 10)], [*range(1, 10)])
