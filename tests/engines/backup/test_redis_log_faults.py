"""What the log of Redis lost or holds damaged is refused by name; a killed server or cutter loses nothing of it."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest

from dbkeep.backup.log.append_only_file import HELD, Position
from dbkeep.backup.log.redis import ENGINE
from dbkeep.backup.log.ship import lost_since_newest_set
from dbkeep.backup.log.slices import Slice, log_folder, read_slices, remove_unfinished
from dbkeep.backup.manifest import RecoveryPoint
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect

from .redis_log import LIST, Instance, folder, numbers, start


@pytest.fixture
def instance() -> Iterator[Instance]:
    with folder() as path, start(path) as found:
        yield found


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
