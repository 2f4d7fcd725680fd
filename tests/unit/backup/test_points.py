"""Points: records that are whole or named, kept as long as a set before them; and where each is restorable from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbkeep.backup import points as module
from dbkeep.backup.clock import place
from dbkeep.backup.job import Fence, Ready
from dbkeep.backup.log.slices import Slice, write_slice
from dbkeep.backup.manifest import Part, RecoveryPoint, write_part
from dbkeep.backup.points import (
    Point,
    check_name,
    copy_points,
    fences_of,
    find_points,
    mark,
    prune_copies,
    prune_points,
    read_points,
    write_point,
)
from dbkeep.backup.points_catalog import points_catalog, reach
from dbkeep.backup.recovery_point import Gate
from dbkeep.backup.restore.target import Target, check_time, choose
from dbkeep.backup.settings import BackupHost, BackupSettings, DirectoryStoreSettings, MongoDBBackup, RedisBackup
from dbkeep.backup.stores.store import DirectoryStore
from dbkeep.errors import DbkeepError, UsageError

from ... import signing

START = datetime(2026, 11, 28, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def point(name: str, seconds: float, host: str = "db1", *engines: str) -> Point:
    fences = {engine: RecoveryPoint(at=at(seconds), name=name) for engine in engines or ("mongodb", "redis")}
    return Point(name=name, host=host, began_at=at(seconds - 0.25), skew_seconds=0.25, fences=fences)


def unsigned(points: list[Point]) -> list[Point]:
    assert all(found.signature for found in points)
    return [found.model_copy(update={"signature": ""}) for found in points]


def take(host: BackupHost, seconds: float, *engines: str) -> str:
    """Put an empty set into the repository, as if it had been taken."""
    set_id = f"{at(seconds):%Y%m%dT%H%M%SZ}"
    for engine in engines or ("mongodb", "redis"):
        part = Part(
            set_id=set_id,
            engine=engine,
            host="db1",
            server_version="7.0.15",
            recovery_point=RecoveryPoint(at=at(seconds), name="x"),
            started_at=at(seconds),
            seconds=1,
            stored_bytes=1,
            counts={},
            recipients=("age1x",),
            tools={},
        )
        folder = host.sets / set_id / engine
        folder.mkdir(parents=True)
        write_part(folder, part, host.settings.signing_key_file)
    return set_id


def log(host: BackupHost, engine: str, first: float, last: float, *, begins_chain: bool = False) -> None:
    found = Slice(
        engine=engine,
        host="db1",
        first=str(first),
        last=str(last),
        started_at=at(first),
        ended_at=at(last),
        begins_chain=begins_chain,
    )
    write_slice(host.settings.repository, found, host.settings.signing_key_file)


@pytest.fixture
def host(tmp_path: Path) -> BackupHost:
    settings = BackupSettings(
        repository=tmp_path / "backup",
        recipients=("age1x",),
        signing_keys=signing.PUBLIC,
        signing_key_file=signing.write_key(tmp_path),
        stores=(DirectoryStoreSettings(type="directory", name="nas", path=tmp_path / "nas"),),
        mongodb=MongoDBBackup(),
        redis=RedisBackup(data_directory=tmp_path / "redis"),
    )
    (tmp_path / "nas").mkdir()
    (tmp_path / "backup").mkdir()
    return BackupHost(settings)


@pytest.fixture
def nas(host: BackupHost) -> DirectoryStore:
    (settings,) = host.settings.stores
    assert isinstance(settings, DirectoryStoreSettings)
    return DirectoryStore(settings, host.settings.repository)


def test_a_record_is_read_as_it_was_written_and_one_that_is_altered_hides_no_other(host: BackupHost) -> None:
    repository = host.settings.repository
    for one in (point("b", 20), point("a", 10)):
        write_point(host, one)
    first, second = read_points(host)
    assert (first.name, first.fences, second.name) == ("a", point("a", 10).fences, "b")
    path = repository / "points/a.db1.json"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text(encoding="utf-8").replace("08:00:10Z", "08:00:11Z"), encoding="utf-8")
    damaged: list[str] = []
    assert read_points(host, damaged) == [second]
    assert len(damaged) == 1
    assert str(path) in damaged[0]
    with pytest.raises(DbkeepError, match="damaged"):
        find_points(host, "a")


def test_a_point_of_a_store_is_believed_only_when_a_host_signed_it_as_it_is(
    host: BackupHost, nas: DirectoryStore, tmp_path: Path
) -> None:
    write_point(host, point("p", 10))
    copy_points(host, nas, ())
    (signed,) = find_points(host, "p", nas)
    path = tmp_path / "nas" / signed.key
    for forged in (point("p", 11), signed.model_copy(update={"began_at": at(0)})):
        path.write_text(forged.render())
        with pytest.raises(DbkeepError, match=r"store nas: points/p\.db1\.json: the record is damaged, or no host"):
            find_points(host, "p", nas)


@pytest.mark.parametrize("name", ["", "../etc", "a.b", "a b", "-a", "a" * 41])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a point's name"):
        check_name(name)


def test_the_records_of_hosts_with_one_name_are_one_point() -> None:
    both = [point("p", 1, "db1", "mongodb"), point("p", 2, "db2", "redis")]
    assert fences_of(both, ("mongodb", "redis"), "p")["redis"].at == at(2)
    with pytest.raises(UsageError, match="was not set in postgresql, only in mongodb, redis"):
        fences_of(both, ("postgresql", "redis"), "p")
    with pytest.raises(UsageError, match="there is no point q"):
        fences_of([], ("redis",), "q")


def test_a_point_goes_with_the_last_set_before_it(host: BackupHost, nas: DirectoryStore) -> None:
    for name, seconds in (("before", 5), ("after", 15)):
        write_point(host, point(name, seconds))
    assert prune_points(host) == [], "without a set nothing is known to be useless"
    assert copy_points(host, nas, ()) == ["points/before.db1.json", "points/after.db1.json"]
    assert copy_points(host, nas, nas.sizes("points/")) == []
    take(host, 10)
    assert prune_points(host) == ["before"]
    assert [found.name for found in read_points(host)] == ["after"]
    assert prune_copies(host, nas, dict.fromkeys(("mongodb", "redis"), place(at(10)))) == ["points/before.db1.json"]
    assert [found.name for found in find_points(host, "after", nas)] == ["after"]


def test_a_log_reaches_from_a_set_to_its_next_gap(host: BackupHost) -> None:
    take(host, 10)
    for first, last, begins in ((0, 12, True), (12, 20, False), (30, 40, True)):
        log(host, "redis", first, last, begins_chain=begins)
        log(host, "mongodb", first, last, begins_chain=begins)
    for seconds in (5, 15, 20, 25, 35):
        write_point(host, point(f"p{seconds}", seconds))
    rows = points_catalog(host)["points"]
    assert {row["name"]: row["restorable_from"] for row in rows} == {
        "p5": [],
        "p15": ["local"],
        "p20": ["local"],
        "p25": [],
        "p35": [],
    }
    newest = points_catalog(host, 2)
    assert [row["name"] for row in newest["points"]] == ["p25", "p35"]
    assert newest["all"] == 5
    assert not reach([], []).holds(RecoveryPoint(at=at(1), name=""))


def test_no_more_of_the_log_is_read_than_the_newest_points_need(host: BackupHost) -> None:
    take(host, 10)
    take(host, 30)
    for engine in ("redis", "mongodb"):
        log(host, engine, 0, 20, begins_chain=True)
        log(host, engine, 20, 40)
        (host.settings.repository / "log" / engine / "20261128T080020.000000Z.json").write_text(
            "damaged", encoding="utf-8"
        )
    for seconds in (15, 35):
        write_point(host, point(f"p{seconds}", seconds))
    assert len(points_catalog(host)["errors"]) == 2
    newest = points_catalog(host, 1)
    assert newest["errors"] == []
    assert [row["restorable_from"] for row in newest["points"]] == [["local"]]


def test_a_store_restores_a_point_when_it_has_the_set_the_log_and_the_record(host: BackupHost) -> None:
    set_id = take(host, 10)
    for engine in ("redis", "mongodb"):
        log(host, engine, 0, 20, begins_chain=True)
    write_point(host, point("p", 15))

    def sources() -> list[str]:
        return list(points_catalog(host)["points"][0]["restorable_from"])

    keys = [f"sets/{set_id}/{engine}/manifest.json" for engine in ("redis", "mongodb")]
    keys += [f"log/{engine}/20261128T080020.000000Z.json" for engine in ("redis", "mongodb")]
    for key in [*keys, "points/p.db1.json"]:
        assert sources() == ["local"], key
        path = host.settings.repository.parent / "nas" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((host.settings.repository / key).read_bytes())
    assert sources() == ["local", "nas"]


def test_each_engine_takes_its_own_newest_set_before_the_moment(host: BackupHost) -> None:
    early, late = take(host, 10), take(host, 20, "redis")
    for engine in ("redis", "mongodb"):
        log(host, engine, 0, 15, begins_chain=True)
        log(host, engine, 15, 40)
        log(host, engine, 40, 50)
    write_point(host, point("p", 30))
    choice = choose(host, Target(point="p"), ("mongodb", "redis"))
    assert {engine: one.part.set_id for engine, one in choice.engines.items()} == {"mongodb": early, "redis": late}
    assert [found.last for found in choice.engines["mongodb"].slices] == ["15", "40"]
    assert [found.last for found in choice.engines["redis"].slices] == ["40"]
    assert [found.last for found in choice.engines["redis"].margin] == ["15"]
    assert choice.skew_seconds == 0.25
    to = choose(host, Target(to=at(30)), ("mongodb",))
    assert (to.engines["mongodb"].at, to.skew_seconds) == (at(30), 1.0)
    with pytest.raises(UsageError, match="no set is before"):
        choose(host, Target(to=at(5)), ("mongodb",))
    with pytest.raises(DbkeepError, match=r"mongodb: from set .* the slices end at"):
        choose(host, Target(to=at(60)), ("mongodb",))
    with pytest.raises(UsageError, match="was not set in postgresql"):
        choose(host, Target(point="p"), ("postgresql",))


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (datetime(2026, 1, 1), "no zone"),  # noqa: DTZ001 - that is what is tried
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "whole second"),
        (datetime(2999, 1, 1, tzinfo=UTC), "not past"),
    ],
)
def test_a_time_is_a_past_second_with_a_zone(moment: datetime, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_time(moment)


class Engines:
    """Stands in for the engines' modules: what `mark` of each does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **marks: Callable[[BackupHost, str, Ready], Fence]) -> None:
        monkeypatch.setattr(
            module, "import_module", lambda name: type(name, (), {"mark": staticmethod(marks[name.rpartition(".")[2]])})
        )


def good(_: BackupHost, name: str, ready: Ready) -> Fence:
    ready()
    return Fence(at=datetime.now(UTC), name=name)


def test_an_engine_that_connects_slowly_adds_no_skew(host: BackupHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(host: BackupHost, name: str, ready: Ready) -> Fence:
        time.sleep(0.5)
        return good(host, name, ready)

    Engines(monkeypatch, mongodb=slow, redis=good)
    assert mark(host, "p").skew_seconds < 0.5
    with pytest.raises(UsageError, match="there already"):
        mark(host, "p")


def test_a_point_holds_for_the_engines_that_did_not_fail(host: BackupHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: BackupHost, name: str, ready: Ready) -> Fence:  # noqa: ARG001 - every mark has this shape
        raise DbkeepError("mongod is down")

    Engines(monkeypatch, mongodb=down, redis=good)
    with pytest.raises(DbkeepError, match=r"point p: mongodb: mongod is down \(redis have it\)"):
        mark(host, "p")
    assert [sorted(found.fences) for found in read_points(host)] == [["redis"]]
    Engines(monkeypatch, mongodb=down, redis=down)
    with pytest.raises(DbkeepError, match="point q is not set"):
        mark(host, "q")
    assert len(read_points(host)) == 1


def test_the_point_of_a_slot_is_set_once_and_named_after_it(host: BackupHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now", lambda: at(301))
    Engines(monkeypatch, mongodb=good, redis=good)
    assert mark(host).name == "20261128T080500Z"
    assert mark(host) == read_points(host)[0]


def test_the_gate_opens_at_its_moment_when_all_are_there() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=0.3)
    gate = Gate(2, moment)
    other = threading.Thread(target=gate.wait)
    other.start()
    gate.wait()
    other.join()
    assert gate.began is not None
    assert gate.began >= moment
