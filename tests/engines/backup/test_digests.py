"""A set knows what every table, collection and instance held, also while others write, and a drill compares it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from dbkeep.backup import table_digests
from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import Part, write_part
from dbkeep.backup.table_digests import TableDigests, digest, prepare_session
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis

from .conftest import Site

Reader = Callable[[Connection, str], object]


def digests(parts: dict[str, Part]) -> dict[str, str]:
    return {name: value for part in parts.values() for name, value in part.digests.items()}


@pytest.fixture(scope="module")
def first(site: Site) -> dict[str, Part]:
    return site.take()


def test_a_change_of_one_value_changes_one_digest_although_nothing_else_tells(
    site: Site, first: dict[str, Part]
) -> None:
    assert site.host.postgresql is not None
    assert site.host.mongodb is not None
    before = digests(first)
    assert set(before) == {
        "chat.users", "chat.tokens", "chat.messages", "chat.notifications", "chat.empty", "state"
    }  # fmt: skip
    with postgresql(site.host.postgresql) as connection:
        connection.execute("UPDATE chat.users SET name = 'another' WHERE id = 7")
    with mongodb(site.host.mongodb) as client:
        client["chat"]["messages"].update_one({"n": 7}, {"$set": {"content": "another"}})
    with redis(*site.state()) as client:
        client.set("sess:7", "another", ex=3600)
    second = site.take()
    after = digests(second)
    assert {name for name in before if before[name] != after[name]} == {"chat.users", "chat.messages", "state"}
    assert [part.counts for part in first.values()] == [part.counts for part in second.values()]

    for engine, unit in (("postgresql", "rows of chat.users"), ("mongodb", "documents of chat.messages")):
        name = unit.rpartition(" ")[2]
        swapped = second[engine].model_copy(update={"digests": {**second[engine].digests, name: before[name]}})
        folder = site.host.sets / second[engine].set_id / engine
        write_part(folder, swapped, site.host.settings.signing_key_file)
        result = drill(site.host, second[engine].set_id, [engine], site.identity)["observed"]["engines"][engine]
        wrong = [assertion["what"] for assertion in result["assertions"] if not assertion["holds"]]
        assert wrong == [f"digest of the {unit}"]
        write_part(folder, second[engine], site.host.settings.signing_key_file)
    evidence = drill(site.host, "newest", None, site.identity)
    assert evidence["result"] == "passed", evidence["observed"]


@pytest.fixture
def writer(site: Site) -> Iterator[None]:
    """Somebody who changes chat.tokens all the time and never the number of its rows."""
    stop = threading.Event()

    def write() -> None:
        assert site.host.postgresql is not None
        with postgresql(site.host.postgresql) as connection:
            number = 1
            while not stop.is_set():
                connection.execute("UPDATE chat.tokens SET id = %s", [number := number + 1])

    thread = threading.Thread(target=write)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("writer")
def test_a_table_that_is_written_at_that_moment_has_no_digest_and_the_others_have(site: Site) -> None:
    part = site.take(("postgresql",))["postgresql"]
    assert set(part.digests) == {"chat.users"}
    evidence = drill(site.host, part.set_id, ["postgresql"], site.identity)
    assert evidence["result"] == "passed", evidence["observed"]


def test_where_nothing_is_written_meanwhile_each_table_is_counted_and_digested_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for reader in ("_count", "digest"):
        work = getattr(table_digests, reader)

        def noted(connection: Connection, name: str, *, reader: str = reader, work: Reader = work) -> object:
            read.append(f"{reader} {name}")
            return work(connection, name)

        monkeypatch.setattr(table_digests, reader, noted)
    site.take(("postgresql",))
    assert sorted(read) == ["_count chat.tokens", "_count chat.users", "digest chat.tokens", "digest chat.users"]


def test_a_table_that_is_emptied_before_it_is_read_has_no_digest(site: Site) -> None:
    """TRUNCATE shows in older views too, so both would agree on a table that the restore point does not have so."""
    assert site.host.postgresql is not None
    with postgresql(site.host.postgresql) as connection:
        connection.execute("CREATE TABLE chat.emptied AS SELECT 1 AS n")
        with TableDigests(site.host.postgresql) as views:
            views.look()
            views.look()
            connection.execute("TRUNCATE chat.emptied")
            assert set(views.read(256)) == {"chat.users", "chat.tokens"}
        connection.execute("DROP TABLE chat.emptied")


def test_the_smallest_tables_come_first_and_a_server_that_ends_is_one_line(site: Site) -> None:
    assert site.host.postgresql is not None
    with TableDigests(site.host.postgresql) as views:
        views.look()
        views.look()
        assert views.read(0) == {}
    ended = TableDigests(site.host.postgresql)
    site.services["postgresql"].stop()
    try:
        with pytest.raises(DbkeepError, match=r"PostgreSQL on .*, database chat"), ended.kept():
            ended.look()
    finally:
        site.services["postgresql"].start()


def test_a_table_with_a_type_that_has_no_hash_is_digested_by_its_text(site: Site) -> None:
    assert site.host.postgresql is not None
    with postgresql(site.host.postgresql) as connection:
        prepare_session(connection)
        for table, order in (("up", "n"), ("down", "-n")):
            connection.execute(
                f"CREATE TABLE chat.{table} AS SELECT n, json_build_object('n', n) AS j FROM "
                f"generate_series(1, 50) n ORDER BY {order}"
            )
        found = [digest(connection, f"chat.{table}") for table in ("up", "down")]
        connection.execute("UPDATE chat.down SET j = '{\"n\": 8}' WHERE n = 7")
        changed = digest(connection, "chat.down")
        connection.execute("DROP TABLE chat.up, chat.down")
    assert found[0].startswith("texts:")
    assert found[0] == found[1] != changed
