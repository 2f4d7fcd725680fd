"""What every engine of PostgreSQL's backup has to do: exact ends, gaps refused by name, and nothing lost by a kill."""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.log.slices import Slice
from dbkeep.backup.manifest import Part, RecoveryPoint, read_sets
from dbkeep.backup.postgresql import mark
from dbkeep.backup.postgresql_engine import engine_here
from dbkeep.backup.restore.postgresql import replace
from dbkeep.backup.restore.target_postgresql import goal_of
from dbkeep.backup.run import run
from dbkeep.backup.verify import verify_part
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql.connect import connect

from .postgresql_hosts import CANARY, SCRIPT, PostgreSQLHost, make_host

ENGINES = ["pgbackrest", "basebackup"]


@pytest.fixture(scope="module", params=ENGINES)
def made(folder: Path, request: pytest.FixtureRequest) -> Iterator[PostgreSQLHost]:
    place = folder / request.param
    place.mkdir(mode=0o755)
    with make_host(place, request.param, str(pyrage.x25519.Identity.generate())) as found:
        yield found


@pytest.fixture
def part(made: PostgreSQLHost) -> Part:
    """A set of a table that holds nothing but the record 1, and the beginning of its log."""
    with connect(made.server) as connection:
        connection.execute("TRUNCATE chat.records")
    made.write(1)
    taken = made.take()
    made.cut()
    return taken


def at(moment: datetime) -> RecoveryPoint:
    return RecoveryPoint(at=moment, name="")


def pause() -> datetime:
    """Return a moment after all that was written and before all that will be."""
    time.sleep(0.02)
    moment = datetime.now(UTC)
    time.sleep(0.02)
    return moment


def archived(made: PostgreSQLHost) -> list[Path]:
    paths = (made.host.settings.repository / "postgresql").rglob("0*-*")
    return sorted(path for path in paths if path.suffix in (".zst", ".age"))


def test_a_copy_stops_exactly_at_a_name_or_a_time_and_archives_nothing(
    made: PostgreSQLHost, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write(2)
    named = mark(made.host, f"dbkeep_{part.set_id}_later")
    made.write(3)
    between = pause()
    made.write(4)
    with monkeypatch.context() as patched:
        # As if row 4 was written while the slice was cut.
        patched.setattr("dbkeep.backup.log.postgresql.now", lambda: between)
        (written,) = made.cut()
    (idle,) = made.cut()
    assert (written.begins_chain, bool(written.repository_files)) == (False, True)
    assert (idle.first, idle.last, idle.repository_files) == (written.last, written.last, ())
    before = archived(made)
    ends = [
        (RecoveryPoint(at=named.at, name=named.name), [1, 2]),
        (at(between), [1, 2, 3]),
        (at(idle.ended_at), [1, 2, 3, 4]),
    ]
    for target, rows in ends:
        with made.copy(part, target) as server:
            assert made.rows(server) == rows, target
            with connect(server, "chat") as connection:
                assert connection.execute("SHOW archive_mode").fetchone() == ("off",)
                connection.execute("INSERT INTO chat.records VALUES (1000)")
                connection.execute("SELECT pg_switch_wal()")
    # The throw-away server's own setting is off too: what the engine wrote is what a server started by hand would obey.
    auto = [path.read_text() for path in made.folder.glob("copy-*/postgresql.auto.conf")]
    assert len(auto) == len(ends)
    assert all("archive_mode = 'off'" in text for text in auto)
    assert archived(made) == before


def test_a_restore_to_a_time_goes_on_in_a_log_of_its_own(made: PostgreSQLHost, part: Part) -> None:
    made.write(2)
    moment = pause()
    made.write(3)
    (before,) = made.cut()
    made.folder.joinpath("drill").mkdir(exist_ok=True)
    done = replace(made.host, part, made.identity, made.service, lambda _: None, target=at(moment))
    assert done["counts"] == {"chat.records": 2}
    assert made.rows() == [1, 2]
    (after,) = made.cut()
    assert after.begins_chain
    assert after.last[:8] > before.last[:8]
    made.write(5)
    with pytest.raises(DbkeepError, match="gap between slice"):
        goal_of(made.host, part, at(made.cut()[0].ended_at))
    later = made.take()
    assert not verify_part(made.host, later)
    made.write(6)
    (newest,) = made.cut()
    with made.copy(later, at(newest.ended_at)) as server:
        assert made.rows(server) == [1, 2, 5, 6]
    with made.copy(part, at(moment)) as server:
        assert made.rows(server) == [1, 2], "the old timeline is still there"


def lose(made: PostgreSQLHost, found: Slice) -> Path:
    path = made.host.settings.repository / found.repository_files[0].name
    path.rename(path.with_suffix(".lost"))
    return path


def test_a_missing_segment_is_named_before_anything_is_stopped(made: PostgreSQLHost, part: Part) -> None:
    made.write(2)
    (found,) = made.cut()
    path = lose(made, found)
    server = made.service.settings
    try:
        with pytest.raises(DbkeepError, match=f"{path.name}: missing"):
            replace(made.host, part, made.identity, made.service, lambda _: None, target=at(found.ended_at))
        assert made.service.settings is server
        assert made.rows() == [1, 2]
    finally:
        path.with_suffix(".lost").rename(path)
    with pytest.raises(UsageError, match="is before the point of set"):
        goal_of(made.host, part, at(part.started_at))
    with pytest.raises(DbkeepError, match="choose an earlier moment"):
        goal_of(made.host, part, at(datetime.now(UTC)))


def test_a_segment_that_was_lost_before_it_was_cut_begins_a_new_chain(made: PostgreSQLHost, part: Part) -> None:
    made.write(2)
    archive = archived(made)
    with connect(made.server) as connection:
        connection.execute("SELECT pg_switch_wal()")
    deadline = time.monotonic() + 60
    while not (new := [path for path in archived(made) if path not in archive]) and time.monotonic() < deadline:
        time.sleep(0.05)
    new[0].unlink()
    made.write(3)
    (found,) = made.cut()
    assert found.begins_chain
    with pytest.raises(DbkeepError, match="gap between slice"):
        goal_of(made.host, part, at(found.ended_at))


def test_nothing_is_readable_without_the_key(made: PostgreSQLHost, part: Part) -> None:
    files = [path for path in made.host.settings.repository.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    other = made
    if made.host.with_postgresql()[0].engine == "pgbackrest":
        configuration = made.folder / "other.conf"
        text = made.host.with_postgresql()[0].configuration.read_text()
        configuration.write_text(text.replace("only-for-this-test", "another-passphrase"))
        configuration.chmod(0o644)
        backup = made.host.with_postgresql()[0].model_copy(update={"configuration": configuration})
        settings = made.host.settings.model_copy(update={"postgresql": backup})
        other = changed(made, host=changed(made.host, settings=settings))
    wrong = str(pyrage.x25519.Identity.generate())
    with pytest.raises(DbkeepError, match=r"does not open it|pgbackrest"), other.copy(part, None, wrong):
        pass


def test_after_kills_the_next_run_is_good(made: PostgreSQLHost, part: Part) -> None:
    for seconds in (0.1, 0.5, 1.2):
        process = multiprocessing.get_context("fork").Process(target=run, args=(made.host, None))
        process.start()
        time.sleep(seconds)
        process.kill()
        process.join()
    taken = made.take()
    assert not verify_part(made.host, taken)
    assert not verify_part(made.host, part), "the earlier set is as it was"
    with made.copy(taken, None) as server:
        assert made.rows(server) == [1]


def test_log_from_before_the_oldest_set_goes_and_no_other(made: PostgreSQLHost, part: Part) -> None:
    if made.host.with_postgresql()[0].engine == "pgbackrest":
        pytest.skip("pgBackRest expires by its own rule")
    for parts in read_sets(made.host.sets, made.host.settings.signing_keys):
        if parts["postgresql"].set_id != part.set_id:
            (made.host.sets / parts["postgresql"].set_id / "postgresql/manifest.json").unlink()
    before = len(archived(made))
    engine_here(made.host).expire(made.host)
    assert len(archived(made)) < before
    assert not verify_part(made.host, part)


def test_the_archive_command_repeats_itself_and_overwrites_nothing(made: PostgreSQLHost, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "recipients").write_text(f"{identity.to_public()}\n")
    segment = tmp_path / "0000000100000000000000AB"
    command = [SCRIPT, tmp_path / "recipients", tmp_path / "wal", segment]
    data = made.folder / "pg/data"

    def archive(content: bytes) -> subprocess.CompletedProcess[str]:
        segment.write_bytes(content)
        return subprocess.run([str(word) for word in command], cwd=data, capture_output=True, text=True, check=False)

    (tmp_path / "wal").mkdir()
    assert archive(b"log" * 1000).returncode == 0
    assert archive(b"log" * 1000).returncode == 0
    (stored,) = (path for path in (tmp_path / "wal").rglob("*") if path.is_file())
    assert stored.name.startswith(f"{segment.name}-")
    refused = archive(b"other" * 1000)
    assert (refused.returncode, "is there already with another content" in refused.stderr) == (1, True)
    (tmp_path / "recipients").write_text("no key\n")
    segment = segment.with_name("0000000100000000000000AC")
    command[-1] = segment
    assert archive(b"next").returncode != 0
    assert [path for path in (tmp_path / "wal").rglob("*") if path.is_file()] == [stored]
