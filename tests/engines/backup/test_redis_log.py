"""A set of Redis and the slices after it restore to a point and to a second, whatever happened in between."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from dbkeep.backup.drill.run import drill
from dbkeep.backup.log.append_only_file import HELD, Position
from dbkeep.backup.log.redis import ENGINE
from dbkeep.backup.log.ship import lost_since_newest_set
from dbkeep.backup.log.slices import Slice, log_folder, read_slices, remove_unfinished
from dbkeep.backup.manifest import RecoveryPoint
from dbkeep.backup.restore.redis import replace
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect
from dbkeep.sandbox import redis as sandbox

from .recovery_kit import block, open_and_fetch, operator
from .redis_log import LIST, Instance, start


@pytest.fixture
def instance() -> Iterator[Instance]:
    with folder() as path, start(path) as found:
        yield found


@contextmanager
def folder() -> Iterator[Path]:
    """Make a short path that the server's own user may enter."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-log-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def numbers(last: int) -> list[int]:
    return list(range(1, last + 1))


@pytest.mark.parametrize("program", sandbox.find_programs(), ids=lambda program: f"{program.server}-{program.version}")
def test_a_restore_to_a_point_and_a_second_is_exact_with_rewrites_between(program: sandbox.Program) -> None:
    with folder() as path, start(path, program) as instance:
        instance.write(20)
        part = instance.take()
        instance.write(10)
        instance.cut()
        instance.rewrite()
        early = instance.mark("early")
        instance.write(10)
        instance.cut()
        second, least, most = write_over_a_second(instance)
        instance.rewrite()
        late = instance.mark("late")
        last = instance.write(10) - 10
        instance.cut()
        assert instance.numbers(part, None, "set") == numbers(20)
        assert instance.numbers(part, early, "early") == numbers(30)
        found = instance.numbers(part, RecoveryPoint(at=second, name=""), "second")
        assert least <= len(found) <= most
        assert found == numbers(len(found))
        assert instance.numbers(part, late, "late") == numbers(last)


def write_over_a_second(instance: Instance) -> tuple[datetime, int, int]:
    """Write while a second begins and return it, with the least and the most numbers that there were just then."""
    second = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    least = most = 0
    while datetime.now(UTC) < second + timedelta(seconds=0.5):
        begun = datetime.now(UTC)
        number = instance.write()
        if datetime.now(UTC) < second:
            least = number
        if begun < second:
            most = number
    assert 0 < least < instance.written
    return second, least, most


def test_a_restored_instance_is_complete_and_starts_again_from_what_the_restore_wrote(instance: Instance) -> None:
    state = instance.settings.instances["state"]
    with connect("state", state) as client:
        client.function_load("#!lua name=limits\nredis.register_function('one', function() return 1 end)")
        client.set("sess:kept", "x", ex=3000)
    part = instance.take()
    with connect("state", state) as client:
        client.function_load("#!lua name=late\nredis.register_function('two', function() return 2 end)")
        client.set("sess:later", "x", ex=2000)
    instance.write(5)
    point = instance.mark("before the loss")
    with connect("state", state) as client:
        client.flushall()
        client.function_flush("SYNC")
    instance.cut()

    done = replace(instance.host, part, instance.identity, instance.service, lambda _: None, target=point)

    assert done["counts"] == {"state/dbkeep:": 1, "state/sess:": 3}
    for _ in range(2):
        with connect("state", instance.settings.instances["state"]) as client:
            assert [int(number) for number in client.lrange(LIST, 0, -1)] == numbers(5)
            assert (client.fcall("one", 0), client.fcall("two", 0)) == (1, 2)
            assert 2000 < client.ttl("sess:kept") <= 3000
            assert 1000 < client.ttl("sess:later") <= 2000
            assert str(client.acl_list()[0]).startswith("user admin on ")
            assert client.info("persistence")["aof_enabled"] == 1
        instance.service.stop()
        instance.service.start()
    found = instance.cut()
    assert found.begins_chain
    with pytest.raises(DbkeepError, match="gap between slice"):
        instance.numbers(part, RecoveryPoint(at=found.ended_at, name=""))


def test_a_set_is_drilled_and_restored_by_itself(instance: Instance) -> None:
    instance.write(5)
    part = instance.take()
    assert part.not_backed_up == ("cache",)
    assert (part.details["keys"], str(part.counts["state/sess:"])) == (1, "1")
    assert Position.parse(part.recovery_point.name).offset == 0
    evidence = drill(instance.host, part.set_id, ["redis"], instance.identity)
    assert evidence["result"] == "passed", evidence["observed"]
    instance.write(5)
    done = replace(instance.host, part, instance.identity, instance.service, lambda _: None)
    assert done["counts"] == {"state/sess:": 1}
    with connect("state", instance.settings.instances["state"]) as client:
        assert client.llen(LIST) == 5
        assert client.info("persistence")["aof_enabled"] == 1


def test_a_slice_that_is_flipped_or_missing_is_refused_by_name(instance: Instance) -> None:
    part = instance.take()
    repository = instance.host.settings.repository
    found: list[Slice] = []
    marked: list[RecoveryPoint] = []
    for _ in range(3):
        instance.write(5)
        marked.append(instance.mark(f"point_{len(found)}"))
        found.append(instance.cut())
    point = marked[-1]
    path = repository / log_folder(ENGINE) / found[1].files[0].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DbkeepError, match=f"{path}: altered"):
        instance.numbers(part, point, "flipped")
    path.unlink()
    with pytest.raises(DbkeepError, match=f"{path}: missing"):
        instance.numbers(part, point, "missing")
    (repository / found[1].key).unlink()
    with pytest.raises(DbkeepError, match=f"gap between slice {found[0].name}.*{found[2].name}.*a slice is missing"):
        instance.numbers(part, point, "gap")
    assert instance.numbers(part, marked[0], "before") == numbers(5)


def test_a_point_that_is_not_in_the_slices_is_refused(instance: Instance) -> None:
    part = instance.take()
    instance.write(1)
    point = instance.mark("there")
    instance.cut()
    with pytest.raises(DbkeepError, match="the point elsewhere is not in the slices"):
        instance.numbers(part, point.model_copy(update={"name": "elsewhere"}), "one")
    earlier = RecoveryPoint(at=part.recovery_point.at - timedelta(seconds=1), name="")
    with pytest.raises(DbkeepError, match="take an earlier set"):
        instance.numbers(part, earlier, "two")


def test_the_bytes_of_a_marker_in_somebodys_value_are_no_marker(instance: Instance) -> None:
    part = instance.take()
    instance.write(3)
    point = instance.mark("aimed_at")
    log = max(instance.host.with_redis()[0].data_directory.glob("appendonlydir/*.incr.aof"))
    marker = log.read_bytes().rpartition(b"*5\r\n")[2]
    assert b"aimed_at" in marker
    instance.write(3)
    with connect("state", instance.settings.instances["state"]) as client:
        client.set("sess:forged", b"*5\r\n" + marker + b"rest", ex=600)
    instance.write(3)
    instance.cut()
    assert instance.numbers(part, point) == numbers(3)


def test_a_file_that_was_never_seen_begins_a_new_chain(instance: Instance) -> None:
    before = instance.take()
    instance.write(5)
    instance.cut()
    instance.write(5)
    instance.rewrite(times=2)
    instance.write(5)
    broken = instance.cut()
    assert broken.begins_chain
    assert "was rewritten and removed before it was sealed" in str(lost_since_newest_set(instance.host, ENGINE))
    with pytest.raises(DbkeepError, match="the log was lost before it was sealed"):
        instance.numbers(before, RecoveryPoint(at=broken.ended_at, name=""), "old")
    after = instance.take()
    assert lost_since_newest_set(instance.host, ENGINE) is None
    instance.write(5)
    point = instance.mark("after")
    assert not instance.cut().begins_chain
    assert instance.numbers(after, point, "new") == numbers(20)


def test_a_log_that_lost_its_end_with_the_power_begins_a_new_chain(instance: Instance) -> None:
    instance.take()
    instance.write(50)
    sealed = Position.parse(instance.cut().last)
    instance.service.stop()
    (log,) = instance.host.with_redis()[0].data_directory.glob("appendonlydir/*.incr.aof")
    content = log.read_bytes()
    with log.open("r+b") as stream:
        stream.truncate(content.rindex(b"*3\r\n"))
    instance.service.start()
    instance.written -= 1
    with connect("state", instance.settings.instances["state"]) as client:
        client.rpush(LIST, "x" * 5000)
    assert log.stat().st_size > sealed.offset
    found = instance.cut()
    assert found.begins_chain
    assert Position.parse(found.first).incarnation != sealed.incarnation


def test_what_a_killed_server_acknowledged_is_sealed_and_restored(instance: Instance) -> None:
    part = instance.take()
    instance.write(20)
    instance.cut()

    def write() -> None:
        with suppress(DbkeepError), connect("state", instance.settings.instances["state"]) as client:
            while True:
                client.rpush(LIST, instance.written + 1)
                instance.written += 1

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.5)
    instance.kill()
    writer.join()
    time.sleep(1)
    found = instance.cut()
    restored = instance.numbers(part, RecoveryPoint(at=found.ended_at, name=""))
    # The last command may have been written and not been acknowledged.
    assert instance.written > 20
    assert restored[: instance.written] == numbers(instance.written)
    assert len(restored) <= instance.written + 1


def test_a_cutter_that_is_killed_at_any_moment_loses_nothing(instance: Instance) -> None:
    part = instance.take()
    repository = instance.host.settings.repository

    def cut_on() -> None:
        while True:
            instance.cut()

    for turn in range(8):
        cutter = multiprocessing.get_context("fork").Process(target=cut_on)
        cutter.start()
        wanted = len(read_slices(repository, ENGINE, instance.host.settings.signing_keys)) + turn % 3
        deadline = time.monotonic() + random.uniform(0.01, 0.3)  # noqa: S311 - no secret
        while (
            time.monotonic() < deadline
            or len(read_slices(repository, ENGINE, instance.host.settings.signing_keys)) < wanted
        ):
            instance.write(20)
        cutter.kill()
        cutter.join()
        if turn % 2:
            instance.rewrite()
            instance.write(20)
        remove_unfinished(repository, ENGINE)
    point = instance.mark("end")
    assert not instance.cut().begins_chain
    assert instance.numbers(part, point) == numbers(instance.written)
    held = instance.host.with_redis()[0].data_directory / HELD
    assert len([path for path in held.iterdir() if path.name.isdigit()]) == 1


def test_an_instance_without_the_log_that_a_restore_needs_is_refused(instance: Instance) -> None:
    with connect("state", instance.settings.instances["state"]) as client:
        client.config_set("aof-timestamp-enabled", "no")
        with pytest.raises(DbkeepError, match="a backup needs aof-timestamp-enabled yes; run `dbkeep apply`"):
            instance.take()
        client.config_set("appendonly", "no")
    with pytest.raises(DbkeepError, match="a backup needs appendonly yes"):
        instance.take()
    with pytest.raises(DbkeepError, match="appendonly is off: nothing can be sealed"):
        instance.cut()
    with pytest.raises(DbkeepError, match="appendonly is off: no point can be set"):
        instance.mark("nowhere")


def test_the_recovery_kit_restores_to_a_second_without_dbkeep(instance: Instance) -> None:
    instance.write(5)
    part = instance.take()
    instance.write(5)
    instance.rewrite()
    instance.cut()
    second, least, most = write_over_a_second(instance)
    instance.cut()
    settings = instance.host.settings
    variables = {"DIRECTORY": str(settings.repository), "SET": part.set_id, "TIME": second.isoformat()}
    kit = operator(instance.folder, instance.identity, settings.recipients, variables)
    done = kit.run(*open_and_fetch(), block("bash", "chain() {"), block("sh", "redis-check-aof"))
    assert done.returncode == 0, done.stdout + done.stderr
    with redis.Redis(unix_socket_path=str(kit.kit / "redis/redis.sock")) as client:
        loaded = False
        while not loaded:
            with suppress(redis.RedisError):
                loaded = bool(client.exists(LIST))
            time.sleep(0.05)
        found = [int(number) for number in client.lrange(LIST, 0, -1)]
        client.shutdown(nosave=True)
    assert least <= len(found) <= most
    assert found == numbers(len(found))


def test_a_slice_without_a_time_is_left_out_where_the_clock_was_set_back(instance: Instance) -> None:
    part = instance.take()
    kept = instance.write(2)
    dated = instance.cut()
    time.sleep(1.1)  # a restore to a second ends where it begins
    with connect("state", instance.settings.instances["state"]) as client:
        # As a server does whose clock was set back, until it has passed the last time that it noted.
        client.config_set("aof-timestamp-enabled", "no")
        written = instance.write(2)
        undated = instance.cut()
        client.config_set("aof-timestamp-enabled", "yes")
    assert dated.name < undated.name
    target = RecoveryPoint(at=undated.ended_at, name="")
    set_back = target.model_copy(update={"after": dated.name})
    assert instance.numbers(part, set_back, "set-back")[-1] == kept
    assert instance.numbers(part, target, "no-jump")[-1] == written
