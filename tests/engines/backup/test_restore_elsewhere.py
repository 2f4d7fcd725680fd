"""Another host gets the data of a point: what its host sent, or what is in a store, and it logs nothing among that."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dbkeep.backup.lock import BusyError, hold
from dbkeep.backup.log.ship import ship
from dbkeep.backup.manifest import Part, read_part, write_part
from dbkeep.backup.restore.received import receive, send
from dbkeep.backup.restore.run import plan, restore
from dbkeep.backup.restore.safety_copy import safety_copies
from dbkeep.backup.restore.target import Target
from dbkeep.backup.restore.versions import version_of
from dbkeep.backup.run import LOCK
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.copies import copy_all
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql.connect import connect as postgresql

from ... import signing
from .conftest import Site, make_site
from .stores import directory
from .written_site import Written, make_written, numbers_in

POINT = Target(point="try-1")
SOURCE = "db1"


@pytest.fixture(scope="module")
def written(folder: Path) -> Iterator[Written]:
    with make_written(folder) as found:
        yield found


@pytest.fixture(scope="module")
def standby(written: Written) -> Iterator[Site]:
    """A host with engines of its own, in which nothing is, that reads the source's store and writes to none."""
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-standby-"))
    folder.chmod(0o755)
    try:
        with make_site(folder, written.site.identity) as site:
            store = directory(written.site.folder / "copies")
            settings = site.host.settings.model_copy(update={"read_only_stores": (store,)})
            site.host = replace(site.host, settings=settings)
            assert site.host.postgresql is not None
            with postgresql(site.host.postgresql, "postgres") as connection:
                connection.execute("CREATE DATABASE chat")
            yield site
    finally:
        shutil.rmtree(folder)


def sent(host: BackupHost, target: Target, *, records_only: bool = False) -> io.BytesIO:
    stream = io.BytesIO()
    send(host, target, (), stream, records_only=records_only)
    stream.seek(0)
    return stream


def in_window(written: Written, host: BackupHost) -> None:
    (point,) = (point for point in written.points if point.name == POINT.point)
    allowed = written.writer.between(point.began_at, point.at)
    found = numbers_in(host)
    assert set(found.values()) <= set(allowed), (found, allowed)


def test_a_host_restores_what_another_one_sent(written: Written, standby: Site) -> None:
    source, host = written.site.host, standby.host
    receive(host, sent(source, POINT, records_only=True))
    shown = plan(host, POINT, source=SOURCE)
    assert {row["set_id"] for row in shown["parts"]} == {written.set_id}
    assert {row["replaces"] for row in shown["parts"]} == {
        str(getattr(host.settings, engine).data_directory) for engine in host.engines
    }
    with pytest.raises(DbkeepError, match="no other host sent anything"):
        restore(host, POINT, None, standby.identity, source=SOURCE, services=standby.services)

    before = numbers_in(source)
    receive(host, sent(source, POINT))
    evidence = restore(host, POINT, None, standby.identity, source=SOURCE, services=standby.services)

    in_window(written, host)
    assert evidence["observed"]["source"] == SOURCE
    assert numbers_in(source) == before
    assert not (host.settings.repository / "received").exists()
    for engine in host.engines:
        assert safety_copies(getattr(host.settings, engine).data_directory)


def test_a_host_that_stands_aside_restores_from_a_store_and_adds_nothing_to_it(written: Written, standby: Site) -> None:
    stores = standby.host.settings.read_only_stores
    settings = written.site.host.settings.model_copy(update={"stores": stores})
    source = replace(written.site.host, settings=settings)
    copy_all(source)
    root = written.site.folder / "copies"
    there = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}

    restore(standby.host, POINT, None, standby.identity, store="nas", source=SOURCE, services=standby.services)
    in_window(written, standby.host)
    taken = standby.take()
    ship(standby.host)
    copy_all(standby.host)

    assert sorted(taken) == ["mongodb", "postgresql", "redis"]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == there


def test_a_host_that_writes_into_stores_is_no_target(standby: Site) -> None:
    settings = standby.host.settings
    writes = settings.model_copy(update={"stores": settings.read_only_stores, "read_only_stores": ()})
    host, refusal = replace(standby.host, settings=writes), "this host writes into nas, where the log of db1 is"
    with pytest.raises(UsageError, match=refusal):
        plan(host, POINT, store="nas", source=SOURCE)
    with pytest.raises(UsageError, match=refusal):
        restore(host, POINT, None, standby.identity, store="nas", source=SOURCE)


def test_a_host_that_is_busy_says_so_and_keeps_what_it_has(written: Written, standby: Site) -> None:
    receive(standby.host, sent(written.site.host, POINT))
    before = numbers_in(standby.host)
    with (
        hold(standby.host.settings.repository / LOCK, "backup set 20261128T020000Z"),
        pytest.raises(BusyError, match="backup set 20261128T020000Z"),
    ):
        restore(standby.host, POINT, None, standby.identity, source=SOURCE, services=standby.services)
    assert numbers_in(standby.host) == before


@pytest.mark.parametrize("engine", ["postgresql", "mongodb", "redis"])
def test_a_set_of_a_newer_server_is_refused_before_anything_stops(written: Written, standby: Site, engine: str) -> None:
    def newer(part: Part) -> Part:
        major, *rest = version_of(part.server_version)
        return part.model_copy(update={"server_version": ".".join(map(str, [major + 1, *rest]))})

    folder = written.site.host.sets / written.set_id / engine
    part = read_part(written.site.host.sets, written.set_id, engine, signing.PUBLIC)
    key = written.site.host.settings.signing_key_file
    write_part(folder, newer(part), key)
    try:
        receive(standby.host, sent(written.site.host, POINT))
        with pytest.raises(UsageError, match=f"{engine} .* is here, and set {written.set_id} is of .*cannot read"):
            restore(standby.host, POINT, None, standby.identity, source=SOURCE)
    finally:
        write_part(folder, part, key)


@pytest.mark.parametrize("name", ["../out", "/etc/cron.d/out", "sets/../../out"])
def test_nothing_is_written_outside_the_folder_for_it(standby: Site, name: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    stream.seek(0)
    with pytest.raises(DbkeepError, match="is no file of a repository"):
        receive(standby.host, stream)


def test_a_stream_that_ends_early_is_refused(written: Written, standby: Site) -> None:
    whole = sent(written.site.host, POINT).getvalue()
    with pytest.raises(DbkeepError, match="ends early; try again"):
        receive(standby.host, io.BytesIO(whole[: len(whole) // 2]))
