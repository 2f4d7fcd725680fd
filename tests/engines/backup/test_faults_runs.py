"""Runs that are killed, that meet another one, that find no room: the earlier sets stay good and the next run works."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from dbkeep.backup.drill.run import drill
from dbkeep.backup.lock import BusyError
from dbkeep.backup.manifest import FILE_NAME, part_engines, set_ids
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import connect as postgresql

from .conftest import Site, fill, make_site
from .full_disk import full, mounted
from .stores import with_stores

ENGINES = ["mongodb", "postgresql", "redis"]


def start_run(host: BackupHost, set_id: str) -> BaseProcess:
    running = multiprocessing.get_context("spawn").Process(target=run, args=(host, set_id))
    running.start()
    return running


def assert_good(site: Site, set_id: str) -> None:
    found = verify(site.host, set_id)
    assert found["ok"], found["problems"]
    assert part_engines(site.host.sets, set_id) == ENGINES


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_run_killed_at_random_moments_harms_no_set_and_the_next_is_good(site: Site, kills: int) -> None:
    before = site.take()["redis"].set_id
    began = time.monotonic()
    whole = start_run(site.host, site.another_id())
    whole.join()
    assert whole.exitcode == 0
    seconds = time.monotonic() - began
    dice = random.Random(kills)  # noqa: S311 - the same moments in every run
    killed = 0
    for _ in range(kills):
        set_id = site.another_id()
        running = start_run(site.host, set_id)
        running.join(dice.uniform(0.1, 0.7) * seconds)
        running.kill()
        running.join()
        killed += running.exitcode != 0
        for engine in part_engines(site.host.sets, set_id):
            assert verify(site.host, set_id, [engine])["ok"], "a part that has a manifest is whole"
        taken = site.take()["redis"].set_id
        assert_good(site, before)
        assert_good(site, taken)
        assert not [path for path in site.host.sets.glob("*/*") if path.is_dir() and not (path / FILE_NAME).exists()]
        before = taken
    assert killed >= kills // 2


def test_of_two_runs_at_once_one_is_refused_and_names_the_other(site: Site) -> None:
    first, second = site.another_id(), site.another_id()
    running = start_run(site.host, first)
    try:
        while not (site.host.sets / first).exists():
            assert running.is_alive()
            time.sleep(0.01)
        with pytest.raises(BusyError, match=rf"\.lock: held by process {running.pid} \(backup of set {first}\); wait"):
            run(site.host, second)
    finally:
        running.join()
    assert running.exitcode == 0
    assert second not in set_ids(site.host.sets)
    assert_good(site, first)


@pytest.fixture(scope="module")
def small(folder: Path) -> Iterator[Site]:
    """A site whose whole repository is on a file system of its own, with pgBackRest's."""
    folder = folder / "small"
    with mounted(folder / "backup", "200m"), make_site(folder) as site:
        # Evidence is kept on the same disk, as on a host.
        site.host = with_stores(site, (), evidence=folder / "backup" / "evidence")
        fill(site)
        yield site


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize(
    "left", [0, *(pytest.param(left, marks=pytest.mark.long) for left in (20_000, 100_000, 600_000))]
)
def test_a_full_repository_is_said_and_the_next_run_is_good(
    small: Site, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbkeep.backup.log.wal_archive.WAIT_SECONDS", 10)
    before = small.take()["redis"].set_id
    with full(small.host.settings.repository, left), pytest.raises(DbkeepError) as refused:
        small.take()
    assert "No space left on device" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert_good(small, before)
    assert_good(small, small.take()["redis"].set_id)
    assert small.host.postgresql is not None
    with postgresql(small.host.postgresql) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,), "the server itself was never in need"


def test_a_wrong_key_of_the_repository_is_said_stops_no_other_engine_and_the_next_run_is_good(site: Site) -> None:
    before = site.take()["redis"].set_id
    assert site.host.settings.postgresql is not None
    path = site.host.settings.postgresql.configuration
    right = path.read_text()
    for wrong, reason in (
        (right.replace("only-for-this-test", "another-key"), "was the repository enciphered with another passphrase"),
        (right.replace("repo1-cipher-pass", "# repo1-cipher-pass"), "requires option: repo1-cipher-pass"),
    ):
        path.write_text(wrong)
        try:
            with pytest.raises(DbkeepError, match=rf"pgbackrest .*{reason}.*\(mongodb, redis is complete\)") as refused:
                site.take()
        finally:
            path.write_text(right)
        assert "another-key" not in str(refused.value)
        assert "\n" not in str(refused.value)
        assert_good(site, before)
    assert_good(site, site.take()["redis"].set_id)


def test_a_lost_wal_segment_is_found_and_the_next_set_does_not_need_it(site: Site) -> None:
    before = site.take(("postgresql",))["postgresql"]
    part = site.take(("postgresql",))["postgresql"]
    segment = part.details["segment"]
    (path,) = (site.host.settings.repository / "postgresql" / "archive").rglob(f"{segment}-*")
    path.unlink()
    found = verify(site.host, part.set_id)
    assert [line for line in found["problems"]["postgresql"] if segment in line], found
    evidence = drill(site.host, part.set_id, ["postgresql"], site.identity)
    assert evidence["result"] == "failed"
    assert "missing" in (evidence["observed"]["engines"]["postgresql"]["error"] or "")
    assert drill(site.host, before.set_id, ["postgresql"], site.identity)["result"] == "passed"
    after = site.take(("postgresql",))["postgresql"]
    assert drill(site.host, after.set_id, ["postgresql"], site.identity)["result"] == "passed"


def test_a_key_of_the_repository_that_is_missing_or_open_to_all_is_refused(site: Site) -> None:
    assert site.host.settings.postgresql is not None
    path = site.host.settings.postgresql.configuration
    path.chmod(0o644)
    try:
        with pytest.raises(DbkeepError, match=r"pgbackrest.conf has mode 0644, so others can read or change the rep"):
            site.take(("postgresql",))
    finally:
        path.chmod(0o640)
    away = path.rename(path.with_name("away"))
    try:
        with pytest.raises(DbkeepError, match=r"pgbackrest.conf: No such file or directory; run playbooks/site.yml"):
            site.take(("postgresql",))
    finally:
        away.rename(path)
    site.take(("postgresql",))
