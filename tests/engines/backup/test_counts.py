"""A set's counts hold on what it restores, also while others write, empty and remove."""

from __future__ import annotations

import pytest
from redis import Redis

from dbkeep.backup import key_sample
from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import Count, write_part
from dbkeep.backup.redis import instance_counts
from dbkeep.backup.table_digests import TableDigests
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis
from dbkeep.redis.inspect import sample_keys

from .conftest import Site


def test_a_keyspace_that_goes_between_fence_and_count_is_no_surprise_to_a_drill(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = sample_keys

    def when_presence_is_gone(client: Redis, enough: int) -> tuple[dict[str, int], bool]:
        client.delete(*client.keys("pres:*"))
        client.set("sess:later", "1", ex=3600)
        return look(client, enough)

    with monkeypatch.context() as patch:
        patch.setattr("dbkeep.backup.key_sample.sample_keys", when_presence_is_gone)
        part = site.take(("redis",))["redis"]
    assert part.counts == {"state/sess:": Count(low=293, high=307)}
    assert part.details["keys"] == 307
    evidence = drill(site.host, part.set_id, ["redis"], site.identity)
    assert evidence["result"] == "passed", evidence["observed"]


def test_of_many_keys_a_sample_bounds_the_keyspaces_and_a_drill_holds_the_copy_to_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_sample, "SAMPLED_KEYS", 1000)
    numbers = {"sess:": 8000, "pres:": 3000, "rl:": 3000}
    with redis(*site.state()) as client:
        client.mset({f"{prefix}many-{n}": n for prefix, number in numbers.items() for n in range(number)})
        try:
            live = instance_counts(site.host.with_redis()[1], "state")
            part = site.take(("redis",))["redis"]
            observed = drill(site.host, part.set_id, ["redis"], site.identity)["observed"]["engines"]["redis"]
            assert observed["passed"], observed
            for name, count in part.counts.items():
                assert count.holds(live[name])
                assert count.low < count.high < part.details["keys"]
            assert set(part.counts) == {f"state/{prefix}" for prefix in numbers}
            assert part.details["unseen"] < 2500

            uncounted = part.model_copy(update={"counts": {}})  # as sets from before had it
            write_part(site.host.sets / part.set_id / "redis", uncounted, site.host.settings.signing_key_file)
            observed = drill(site.host, part.set_id, ["redis"], site.identity)["observed"]["engines"]["redis"]
            assert observed["passed"], observed
            assert any("keyspaces have no counts" in note for note in observed["unproved"])
        finally:
            client.delete(*client.keys("*many-*"))


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
