"""What a store lacks is a difference of names, newest first; files of a part without its manifest are no part."""

from __future__ import annotations

from dbkeep.backup.stores.copies import missing, parts_of

OLD, NEW = "20261121T020000Z", "20261122T020000Z"


def test_a_part_is_there_when_its_manifest_is() -> None:
    keys = [
        f"sets/{OLD}/redis/manifest.json",
        f"sets/{OLD}/redis/dump.rdb.zst.age",
        f"sets/{NEW}/redis/dump.rdb.zst.age",
        f"sets/{NEW}/mongodb/manifest.json.partial",
        f"sets/{NEW}/mongodb/deeper/manifest.json",
        "sets/not-an-id/redis/manifest.json",
        "postgresql/backup/chat/manifest.json",
        "lock-canary",
    ]
    assert parts_of(keys) == {(OLD, "redis")}


def test_the_newest_set_goes_first_and_what_a_store_has_besides_does_not_matter() -> None:
    here = [(OLD, "mongodb"), (OLD, "redis"), (NEW, "redis")]
    assert missing(here, {(OLD, "redis"), ("20200101T000000Z", "redis")}) == [(NEW, "redis"), (OLD, "mongodb")]
    assert missing(here, set(here)) == []
