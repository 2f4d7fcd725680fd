"""A set's counts hold on what it restores, also while others write, empty and remove."""

from __future__ import annotations

import pytest

from dbkeep.backup import redis as redis_backup
from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import Count
from dbkeep.backup.table_digests import TableDigests
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis
from dbkeep.settings import RedisSettings

from .conftest import Site


def test_a_keyspace_that_goes_between_fence_and_count_is_no_surprise_to_a_drill(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = redis_backup.instance_counts

    def when_presence_is_gone(settings: RedisSettings, name: str) -> dict[str, int]:
        with redis(*site.state()) as client:
            client.delete(*client.keys("pres:*"))
            client.set("sess:later", "1", ex=3600)
        return count(settings, name)

    with monkeypatch.context() as patch:
        patch.setattr(redis_backup, "instance_counts", when_presence_is_gone)
        part = site.take(("redis",))["redis"]
    assert part.counts == {"state/sess:": Count(low=293, high=307)}
    assert part.details["keys"] == 307
    evidence = drill(site.host, part.set_id, ["redis"], site.identity)
    assert evidence["result"] == "passed", evidence["observed"]


def test_an_instance_with_too_many_keys_is_not_counted_and_its_drill_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_backup, "COUNTED_KEYS", 100)
    part = site.take(("redis",))["redis"]
    assert part.counts == {}
    observed = drill(site.host, part.set_id, ["redis"], site.identity)["observed"]["engines"]["redis"]
    assert observed["passed"]
    assert any("keyspaces have no counts" in note for note in observed["unproved"])
    assert any(assertion["what"].startswith("keys loaded") for assertion in observed["assertions"])


def test_rows_that_come_between_the_views_are_a_bound_and_an_emptied_table_has_a_wide_one(site: Site) -> None:
    assert site.host.postgresql is not None
    with postgresql(site.host.postgresql) as connection:
        connection.execute("CREATE TABLE chat.growing AS SELECT generate_series(1, 5) AS n")
        connection.execute("CREATE TABLE chat.emptied AS SELECT generate_series(1, 7) AS n")
        connection.execute("CREATE TABLE chat.dropped AS SELECT generate_series(1, 3) AS n")
        try:
            with TableDigests(site.host.postgresql) as views:
                views.look()
                connection.execute("INSERT INTO chat.growing VALUES (6), (7)")
                views.look()
                connection.execute("TRUNCATE chat.emptied")
                connection.execute("DROP TABLE chat.dropped")
                counts = views.counts()
            assert counts["chat.growing"] == Count(low=5, high=7)
            assert counts["chat.emptied"].holds(0)
            assert counts["chat.emptied"].holds(7)
            assert counts["chat.dropped"].holds(3)
            assert counts["chat.users"].low == counts["chat.users"].high
        finally:
            connection.execute("DROP TABLE chat.growing, chat.emptied")
