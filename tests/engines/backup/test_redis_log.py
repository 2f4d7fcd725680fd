"""A set of Redis and the slices after it restore to a point and to a second, whatever happened in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import redis

from dbkeep.backup.drill.run import drill
from dbkeep.backup.log.append_only_file import Position
from dbkeep.backup.manifest import RecoveryPoint
from dbkeep.backup.restore.redis import replace
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect
from dbkeep.sandbox import redis as sandbox

from .recovery_kit import block, open_and_fetch, operator
from .redis_log import LIST, Instance, folder, numbers, start


@pytest.fixture
def instance() -> Iterator[Instance]:
    with folder() as path, start(path) as found:
        yield found


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
