"""Points: records that are whole or named, and kept as long as a set before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbkeep.backup.clock import place
from dbkeep.backup.points import (
    check_name,
    copy_points,
    fences_of,
    find_points,
    prune_copies,
    prune_points,
    read_points,
    write_point,
)
from dbkeep.backup.settings import BackupHost, DirectoryStoreSettings
from dbkeep.backup.stores.store import DirectoryStore
from dbkeep.errors import DbkeepError, UsageError

from .point_records import at, new_host, point, take


@pytest.fixture
def host(tmp_path: Path) -> BackupHost:
    return new_host(tmp_path)


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
