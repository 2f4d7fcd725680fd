"""A restore puts a set in place of the live data, keeps what was there, and puts it back when it fails."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import write_part
from dbkeep.backup.restore.run import plan, restore
from dbkeep.backup.restore.safety_copy import safety_copies
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.bootstrap import wait_for_primary
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.mongodb.connect import hello
from dbkeep.postgresql import counts as rows
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis

from .conftest import Site


def lose_data(site: Site) -> None:
    """What a restore is for: rows deleted, a collection dropped, an account gone, keys flushed."""
    assert site.host.postgresql is not None
    assert site.host.mongodb is not None
    with postgresql(site.host.postgresql) as connection:
        connection.execute("DELETE FROM chat.users")
        connection.execute("DROP POLICY own ON chat.users")
    with mongodb(site.host.mongodb) as client:
        client["chat"]["messages"].drop()
        client.admin.command("dropUser", "chat_api")
    with redis(*site.state()) as client:
        client.flushall()
        client.set("sess:late", "written since", ex=600)


def directories(site: Site) -> list[Path]:
    return [getattr(site.host.settings, engine).data_directory for engine in site.host.engines]


def test_a_restore_brings_everything_back_and_backups_go_on(site: Site) -> None:
    first = site.take()
    site.take(("postgresql",))  # a later backup on the same timeline, which the restore goes behind
    lose_data(site)
    shown = {row["engine"]: row for row in plan(site.host, first["redis"].set_id)["parts"]}
    assert shown["postgresql"]["live"] == {"chat.tokens": 1, "chat.users": 0}
    assert shown["redis"]["in_set"] == {"state/pres:": "7", "state/sess:": "300"}
    assert shown["mongodb"]["lost_seconds"] >= 0

    evidence = restore(site.host, first["redis"].set_id, None, site.identity, services=site.services)

    restored = evidence["observed"]["engines"]
    assert restored["postgresql"]["counts"] == {"chat.tokens": 1, "chat.users": 1200}
    assert restored["mongodb"]["counts"] == {"chat.empty": 0, "chat.messages": 2500, "chat.notifications": 1}
    assert restored["redis"]["counts"] == {"state/pres:": 7, "state/sess:": 300}
    for directory in directories(site):
        (copy,) = safety_copies(directory)
        assert any(copy.iterdir())
        assert directory.stat().st_mode & 0o077 == 0
    assert site.host.mongodb is not None
    with mongodb(site.host.mongodb) as client:
        assert client.admin.command("usersInfo", "chat_api")["users"]
        assert "by_n" in client["chat"]["messages"].index_information()
    with redis(*site.state()) as client:
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.fcall("one", 0) == 1

    site.services["redis"].stop()
    site.services["redis"].start()
    with redis(*site.state()) as client:
        assert client.dbsize() == 307, "the append-only file that the restore wrote is what the next start reads"

    second = site.take()
    assert second["postgresql"].details["timeline"] > first["postgresql"].details["timeline"]
    assert drill(site.host, "newest", None, site.identity)["result"] == "passed"
    assert drill(site.host, first["redis"].set_id, ["postgresql"], site.identity)["result"] == "passed"


def test_drivers_that_knew_the_replica_set_before_take_the_restored_primary(site: Site) -> None:
    part = site.take(("mongodb",))["mongodb"]
    for _ in range(2):
        site.services["mongodb"].stop()
        site.services["mongodb"].start()
        wait_for_primary(site.services["mongodb"].settings)
    before = hello(site.services["mongodb"].settings)
    restore(site.host, part.set_id, ["mongodb"], site.identity, services=site.services)
    after = hello(site.services["mongodb"].settings)
    # What a driver compares (specification "Server Discovery And Monitoring").
    assert before is not None
    assert after is not None
    assert after["electionId"] > before["electionId"]


@pytest.mark.parametrize("engine", ["mongodb", "redis"])
def test_a_restore_that_cannot_decrypt_leaves_everything_as_it_was(site: Site, engine: str) -> None:
    part = site.take((engine,))[engine]
    before = sorted(path.name for path in getattr(site.host.settings, engine).data_directory.parent.iterdir())
    other = str(pyrage.x25519.Identity.generate())
    with pytest.raises(DbkeepError, match=rf"does not open it.*; {engine} is as it was"):
        restore(site.host, part.set_id, [engine], other, services=site.services)
    assert sorted(path.name for path in getattr(site.host.settings, engine).data_directory.parent.iterdir()) == before


def test_a_restore_that_fails_half_way_puts_the_live_data_back(site: Site) -> None:
    assert site.host.postgresql is not None
    part = site.take(("postgresql",))["postgresql"]
    with postgresql(site.host.postgresql) as connection:
        connection.execute("INSERT INTO chat.tokens VALUES (2)")
    elsewhere = part.recovery_point.model_copy(update={"name": "no_such_point"})
    broken = part.model_copy(update={"recovery_point": elsewhere})
    write_part(site.host.sets / part.set_id / "postgresql", broken, site.host.settings.signing_key_file)
    with pytest.raises(DbkeepError, match="postgresql is as it was"):
        restore(site.host, part.set_id, ["postgresql"], site.identity, services=site.services)
    assert rows(site.host.postgresql)["chat.tokens"] == 2
    assert site.take(("postgresql",))["postgresql"].counts["chat.tokens"].low == 2


def test_a_damaged_set_stops_no_service(site: Site) -> None:
    part = site.take(("mongodb",))["mongodb"]
    site.file(part).unlink()
    server = site.services["mongodb"].settings
    with pytest.raises(DbkeepError, match=r"missing.*; nothing was changed"):
        restore(site.host, part.set_id, ["mongodb"], site.identity, services=site.services)
    assert site.services["mongodb"].settings is server
