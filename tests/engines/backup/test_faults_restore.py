"""Restores that find no room, that meet another one: the live data stays, and the next restore is good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbkeep.backup.lock import BusyError
from dbkeep.backup.restore.run import engine_restore, restore
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.postgresql.connect import connect as postgresql

from .conftest import Site, fill, make_site
from .full_disk import full, mounted

KIBIBYTE = 1 << 10


@pytest.fixture(scope="module")
def tight(folder: Path) -> Iterator[Site]:
    """A site that shares one small disk with its backups, as small hosts do."""
    with mounted(folder / "tight", "1500m", 0o755) as disk, make_site(disk) as site:
        fill(site)
        assert site.host.mongodb is not None
        assert site.host.postgresql is not None
        with postgresql(site.host.postgresql) as connection:
            connection.execute("CREATE TABLE chat.ballast (content text)")
            connection.execute("ALTER TABLE chat.ballast ALTER content SET STORAGE EXTERNAL")
            connection.execute("INSERT INTO chat.ballast SELECT repeat('x', 1 << 20) FROM generate_series(1, 80)")
        with mongodb(site.host.mongodb) as client:
            # So much more than what a server needs to start that the room left is between the two.
            client["chat"]["ballast"].insert_many([{"content": os.urandom(1 << 20)} for _ in range(40)])
        yield site


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    """A host with Redis alone."""
    with make_site(folder / "alone", engines=("redis",)) as made:
        fill(made)
        yield made


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize(("engine", "left"), [("postgresql", 60_000), ("mongodb", 20_000), ("redis", 8)])
def test_a_restore_onto_a_full_disk_leaves_the_live_data_and_the_next_is_good(
    tight: Site, engine: str, left: int
) -> None:
    part = tight.take((engine,))[engine]
    live = engine_restore(engine).live_counts(tight.host)
    with full(tight.folder, left * KIBIBYTE), pytest.raises(DbkeepError, match=f"; {engine} is as it was") as refused:
        restore(tight.host, part.set_id, [engine], tight.identity, services=tight.services)
    assert "\n" not in str(refused.value)
    # pgBackRest does not say why a write was cut short; the last words of a server that finds no room are in its log.
    reasons = ("No space left", "unable to write", "ended at once", "Connection refused", "did not start")
    assert any(reason in str(refused.value) for reason in reasons), refused.value
    assert engine_restore(engine).live_counts(tight.host) == live
    assert verify(tight.host, part.set_id)["ok"]
    again = restore(tight.host, part.set_id, [engine], tight.identity, services=tight.services)
    assert again["observed"]["engines"][engine]["counts"] == live


def test_of_two_restores_at_once_one_is_refused_and_so_is_a_backup(site: Site) -> None:
    part = site.take(("redis",))["redis"]
    held = rf"held by process {os.getpid()} \(restore to set {part.set_id}\); wait for it to end"
    refused: list[bool] = []

    def meanwhile(_: str) -> None:
        if not refused:
            with pytest.raises(BusyError, match=held):
                restore(site.host, part.set_id, ["redis"], site.identity, services=site.services)
            with pytest.raises(BusyError, match=held):
                site.take(("redis",))
            refused.append(True)

    restore(site.host, part.set_id, ["redis"], site.identity, services=site.services, progress=meanwhile)
    assert refused
    assert engine_restore("redis").live_counts(site.host) == {"state/pres:": 7, "state/sess:": 300}
    assert site.take(("redis",))["redis"].details["keys"] == 307
