"""A host is lost; a new one restores from the store off the host alone, and goes on backing up."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.catalog import catalog
from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import set_ids
from dbkeep.backup.restore.run import plan, restore
from dbkeep.backup.settings import BackupHost, S3StoreSettings
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql import counts as rows
from dbkeep.sandbox.s3 import S3Server

from .conftest import Site, make_site
from .stores import BUCKET, bucket, client, with_stores


@pytest.fixture(scope="module")
def offsite(server: S3Server, folder: Path) -> S3StoreSettings:
    return bucket(server, folder, lock_days=1)


@pytest.fixture(scope="module")
def host(site: Site, offsite: S3StoreSettings) -> BackupHost:
    return with_stores(site, [offsite])


@pytest.fixture(scope="module")
def set_id(site: Site, host: BackupHost) -> str:
    """The second of two sets, so that PostgreSQL's part builds on another backup."""
    site.take((), host)
    return site.take((), host)["redis"].set_id


def test_a_drill_proves_the_copy_in_the_store_although_the_one_here_is_gone(
    site: Site, host: BackupHost, set_id: str
) -> None:
    away = host.sets.with_name("away")
    host.sets.rename(away)
    (host.settings.repository / "postgresql").rename(host.settings.repository / "pg-away")
    try:
        evidence = drill(host, "newest", None, site.identity, store="offsite")
    finally:
        shutil.rmtree(host.sets, ignore_errors=True)
        away.rename(host.sets)
        (host.settings.repository / "pg-away").rename(host.settings.repository / "postgresql")
    failed = {
        engine: result["error"] or [a for a in result["assertions"] if not a["holds"]]
        for engine, result in evidence["observed"]["engines"].items()
    }
    assert failed == {"postgresql": [], "mongodb": [], "redis": []}
    assert (evidence["observed"]["store"], evidence["observed"]["set_id"]) == ("offsite", set_id)
    assert not (host.settings.repository / "fetched").exists()


def test_a_damaged_copy_fails_its_drill_and_the_one_here_is_not_taken_instead(
    site: Site, host: BackupHost, server: S3Server, set_id: str
) -> None:
    storage, key = client(server), f"production/sets/{set_id}/redis/dump.rdb.zst.age"
    content = storage.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    storage.put_object(Bucket=BUCKET, Key=key, Body=content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DbkeepError, match=rf"store offsite: sets/{set_id}/redis/dump.rdb.zst.age: altered"):
        drill(host, set_id, ["redis"], site.identity, store="offsite")
    storage.put_object(Bucket=BUCKET, Key=key, Body=content)
    assert drill(host, set_id, ["redis"], site.identity, store="offsite")["result"] == "passed"


def test_another_identity_does_not_open_the_copy(host: BackupHost, set_id: str) -> None:
    other = str(pyrage.x25519.Identity.generate())
    assert drill(host, set_id, ["redis"], other, store="offsite")["result"] == "failed"


def test_a_new_host_restores_from_the_store_alone_and_goes_on(
    site: Site, offsite: S3StoreSettings, set_id: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-new-"))
    folder.chmod(0o755)
    try:
        with make_site(folder, site.identity) as fresh:
            fresh.host = with_stores(fresh, [offsite])
            assert set_ids(fresh.host.sets) == []
            assert {part["set_id"] for part in catalog(fresh.host, "offsite")["parts"]} >= {set_id}
            with pytest.raises(UsageError, match=r"no set with .* is on this host"):
                plan(fresh.host, "newest")
            shown = {row["engine"]: row["in_set"] for row in plan(fresh.host, "newest", None, "offsite")["parts"]}
            assert shown["redis"] == {"state/pres:": "7", "state/sess:": "300"}

            evidence = restore(fresh.host, "newest", None, site.identity, store="offsite", services=fresh.services)
            restored = {name: entry["counts"] for name, entry in evidence["observed"]["engines"].items()}
            assert restored == {
                "postgresql": {"chat.tokens": 1, "chat.users": 1200},
                "mongodb": {"chat.empty": 0, "chat.messages": 2500, "chat.notifications": 1},
                "redis": {"state/pres:": 7, "state/sess:": 300},
            }
            assert fresh.host.postgresql is not None
            assert rows(fresh.host.postgresql) == restored["postgresql"]

            taken = fresh.take()
            assert taken["postgresql"].details["type"] == "full"
            assert drill(fresh.host, "newest", None, site.identity, store="offsite")["result"] == "passed"
    finally:
        shutil.rmtree(folder)
