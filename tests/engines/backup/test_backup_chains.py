"""pgBackRest takes no backup after one of a clock that was ahead: the backups go on in a chain of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.manifest import Part, RecoveryPoint, read_sets
from dbkeep.backup.pgbackrest_chains import begin_chain, chains, with_backups
from dbkeep.backup.pgbackrest_engine import ALL_WAL, _cluster, expire, tool
from dbkeep.backup.postgresql import mark
from dbkeep.backup.restore.fetch import fetched
from dbkeep.backup.restore.postgresql import replace as restore_live
from dbkeep.backup.restore.target import Chosen
from dbkeep.backup.run import run
from dbkeep.backup.settings import DirectoryStoreSettings
from dbkeep.backup.stores.copies import copy_all
from dbkeep.backup.verify import verify_part

from .moved_clock import faked, set_clock
from .postgresql_hosts import Engine, PostgreSQLHost, make_host

AHEAD = timedelta(days=2)


class Moved(PostgreSQLHost):
    """A host whose server has a clock that the test sets."""

    clock: Path

    def take_ahead(self) -> Part:
        set_clock(self.clock, AHEAD)
        part = self.take()
        set_clock(self.clock, timedelta())
        return part

    def taken_saying(self) -> tuple[Part, list[str]]:
        """Return the part of the next set and what the run warned of."""
        lines: list[str] = []
        (part,) = run(self.host, self.another_id(), progress=lines.append)
        return part, [line for line in lines if "WARNING" in line]

    def wal(self) -> set[str]:
        archive = self.host.settings.repository / "postgresql/archive/chat"
        return {path.name[:24] for path in archive.rglob("0*-*.zst")}

    def chain(self, part: Part) -> tuple[str, str]:
        return part.details["stanza"], part.details["type"]


@pytest.fixture(scope="module")
def made(folder: Path) -> Iterator[Moved]:
    """A host whose newest set was taken two days ahead, and whose clock was set back then."""
    with moved(folder, "pgbackrest") as host:
        yield host


@contextmanager
def moved(folder: Path, engine: Engine) -> Iterator[Moved]:
    clock = folder / "clock"
    clock.write_text("+0d\n")
    with ExitStack() as stack:
        with faked(clock):
            host = stack.enter_context(make_host(folder, engine, str(pyrage.x25519.Identity.generate())))
        found = Moved(host.folder, host.host, host.identity, host.service)
        found.clock = clock
        yield found


def test_the_run_after_the_clock_was_set_back_takes_a_full_set_in_a_new_chain(made: Moved) -> None:
    made.write(1)
    first = made.take()
    made.write(2)
    ahead = made.take_ahead()
    made.write(3)
    part, warnings = made.taken_saying()
    assert made.chain(part) == ("chat-2", "full")
    assert ["the clock was set back" in line and "chat-2" in line for line in warnings] == [True]
    made.write(4)
    named = mark(made.host, "dbkeep_later")
    made.write(5)
    made.cut()
    for found in (first, ahead, part):
        assert verify_part(made.host, found) == []
    assert made.restored(ahead) == [1, 2]
    assert made.restored(part, RecoveryPoint(at=named.at, name=named.name)) == [1, 2, 3, 4]


@pytest.mark.long
def test_the_new_chain_goes_on_and_is_restored_from_a_store_and_as_the_live_cluster(made: Moved) -> None:
    first, ahead, part = (found["postgresql"] for found in read_sets(made.host.sets, made.host.settings.signing_keys))
    after, warnings = made.taken_saying()
    assert (made.chain(after), warnings) == (("chat-2", "incr"), [])
    store = DirectoryStoreSettings(type="directory", name="second", path=made.folder / "second")
    store.path.mkdir()
    host = replace(made.host, settings=made.host.settings.model_copy(update={"stores": (store,)}))
    assert not copy_all(host)["stores"]["second"]["failed"]
    for found, rows in ((ahead, [1, 2]), (after, [1, 2, 3, 4, 5])):
        with fetched(host, "second", {"postgresql": Chosen(found)}, lambda _: None) as source:
            assert PostgreSQLHost(made.folder, source, made.identity, made.service).restored(found) == rows
    for found, rows in ((first, [1]), (part, [1, 2, 3])):
        restore_live(made.host, found, made.identity, made.service, lambda _: None)
        assert made.rows() == rows
        assert made.chain(made.take()) == ("chat-2", "incr")


@pytest.mark.long
def test_a_chain_that_a_kill_left_empty_is_filled_by_the_next_run(made: Moved) -> None:
    repository = made.host.settings.repository
    (repository / "postgresql/backup/.chat-3").mkdir()
    assert begin_chain(repository, "chat", "postgres") == "chat-3"
    part, warnings = made.taken_saying()
    assert (made.chain(part), warnings) == (("chat-3", "full"), [])
    assert made.restored(part) == made.rows()


@pytest.mark.long
def test_the_log_stays_while_an_older_chain_needs_it_and_the_chain_goes_with_its_last_set(made: Moved) -> None:
    repository, settings = made.host.settings.repository, made.host.with_postgresql()[0]
    sets = [found["postgresql"] for found in read_sets(made.host.sets, made.host.settings.signing_keys)]
    newest = sets[-1]
    segments = made.wal()
    expire(made.host)
    assert with_backups(repository, "chat") == chains(repository, "chat") == ["chat", "chat-2", "chat-3"]
    chain, one = tool(settings, "chat-3"), ("--repo1-retention-full-type=count", "--repo1-retention-full=1")
    chain.run("backup", "--type=full", *_cluster(made.host))
    chain.run("expire", *one, *ALL_WAL)
    assert len(chain.backups()) == 1
    assert segments <= made.wal()
    for part in sets[:-1]:
        shutil.rmtree(made.host.sets / part.set_id)
    assert newest.details["stanza"] == "chat-3"
    expire(made.host)
    assert with_backups(repository, "chat") == ["chat-3"]
    chain.run("backup", "--type=full", *_cluster(made.host))
    chain.run("expire", *one)
    assert not segments <= made.wal()


@pytest.mark.long
def test_basebackup_takes_its_sets_whatever_the_clock(folder: Path) -> None:
    place = folder / "basebackup"
    place.mkdir(mode=0o755)
    with moved(place, "basebackup") as made:
        made.write(1)
        ahead = made.take_ahead()
        made.write(2)
        part, warnings = made.taken_saying()
        assert warnings == []
        assert [made.restored(found) for found in (ahead, part)] == [[1], [1, 2]]
