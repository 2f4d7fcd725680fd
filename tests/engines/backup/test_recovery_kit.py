"""The commands of docs/recovery-kit.md restore every engine without dbkeep, from a store and the escrow alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.drill.run import drill
from dbkeep.backup.escrow import operators, write_escrow
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import UsageError
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.sandbox import mongodb as mongodb_sandbox
from dbkeep.sandbox.s3 import S3Server
from dbkeep.secrets import age_recipient

from . import recovery_kit
from .conftest import Site
from .recovery_kit import CIPHER_PASS, Operator, block, blocks, environment_of
from .stores import BUCKET, bucket, client, with_stores


@pytest.fixture(scope="module")
def offline() -> str:
    return str(pyrage.x25519.Identity.generate())


@pytest.fixture(scope="module")
def host(site: Site, server: S3Server, folder: Path, offline: str) -> BackupHost:
    recipients = (age_recipient(site.identity), age_recipient(offline))
    return with_stores(site, [bucket(server, folder, lock_days=1)], recipients=recipients)


@pytest.fixture
def kit(site: Site, host: BackupHost, server: S3Server, offline: str) -> Iterator[Operator]:
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-kit-"))
    folder.chmod(0o755)
    set_id = site.take((), host)["redis"].set_id
    time.sleep(1.1)
    before = datetime.now(UTC)
    time.sleep(1.1)
    storage = client(server)
    for entry in storage.list_objects_v2(Bucket=BUCKET)["Contents"]:
        storage.put_object(Bucket=BUCKET, Key=entry["Key"], Body=b"your data is gone")
        storage.delete_object(Bucket=BUCKET, Key=entry["Key"])
    variables = {
        "STORE": "offsite",
        "KEY_ID": server.key_id,
        "ENDPOINT": server.endpoint,
        "BUCKET": BUCKET,
        "PREFIX": "production/",
        "RCLONE_CA_CERT": str(server.ca_file),
        "SET": set_id,
        "AT": f"{before:%Y-%m-%d %H:%M:%S}",
    }
    yield recovery_kit.operator(folder, offline, host.settings.recipients, variables)
    for stop in (
        ["redis-cli", "-s", str(folder / "kit/redis/redis.sock"), "shutdown", "nosave"],
        ["sh", "-c", f"kill -INT $(head -n 1 {folder}/kit/pg/data/postmaster.pid)"],
    ):
        subprocess.run(stop, capture_output=True, check=False)
    while (folder / "kit/pg/data/postmaster.pid").exists():
        time.sleep(0.05)
    shutil.rmtree(folder)


def output(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout.strip()


def test_the_page_restores_every_engine_although_the_bucket_was_emptied(kit: Operator) -> None:
    done = kit.run(*blocks("bash"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kit.variables['SET']}/" in done.stdout
    assert "the password of the vault" in (kit.kit / "escrow/inventory/production/.vault-password").read_text()

    assert output("redis-cli", "-s", kit.kit / "redis/redis.sock", "dbsize") == "307"
    query = ["psql", "-X", "-U", "postgres", "-h", str(kit.kit / "pg/socket"), "-d", "chat", "-Atc"]
    assert output(*query, "SELECT count(*) FROM chat.users") == "1200"
    assert output(*query, "SELECT pg_is_in_recovery(), current_setting('archive_mode')") == "f|off"

    (kit.kit / "read_archive.py").write_text(block("python", "not a mongodump archive"))
    with mongodb_sandbox.start(kit.kit / "mongod") as settings:
        with (kit.kit / "mongo/dump.archive").open("rb") as archive:
            address = f"mongodb://{settings.host}:{settings.port}/?directConnection=true"
            subprocess.run([sys.executable, kit.kit / "read_archive.py", address], stdin=archive, check=True)
        with mongodb(settings) as copy:
            assert copy["chat"]["messages"].count_documents({}) == 2500
            assert copy["chat"]["recent"].count_documents({}) == 499
            assert copy["chat"]["messages"].index_information()["by_n"]["unique"]
            assert copy["chat"]["messages"].options()["validator"] == {"$jsonSchema": {"required": ["content"]}}


def test_the_escrow_opens_for_an_operator_only(site: Site, host: BackupHost, tmp_path: Path, offline: str) -> None:
    environment = environment_of(tmp_path, site.identity, host.settings.recipients)
    assert operators(environment) == [age_recipient(offline)]
    write_escrow(environment, tmp_path / "escrow.age")
    assert (tmp_path / "escrow.age").stat().st_mode & 0o777 == 0o600
    assert CIPHER_PASS.encode() not in (tmp_path / "escrow.age").read_bytes()
    (tmp_path / "drill.key").write_text(site.identity)
    done = subprocess.run(
        ["age", "-d", "-i", tmp_path / "drill.key", tmp_path / "escrow.age"], capture_output=True, check=False
    )
    assert done.returncode != 0
    alone = environment_of(tmp_path, site.identity, (age_recipient(site.identity),))
    with pytest.raises(UsageError, match="backup_age_recipients has no operator's key, only the vault's own"):
        write_escrow(alone, tmp_path / "never")


def test_after_a_rotation_old_sets_open_with_the_old_identity_and_new_ones_with_the_new(site: Site) -> None:
    new = str(pyrage.x25519.Identity.generate())
    rotated = with_stores(site, [], recipients=(age_recipient(new),))
    first = site.take(("redis",))["redis"]
    second = site.take(("redis",), rotated)["redis"]

    def opens(set_id: str, identity: str) -> bool:
        return bool(drill(site.host, set_id, ["redis"], identity)["result"] == "passed")

    assert [opens(part.set_id, site.identity) for part in (first, second)] == [True, False]
    assert [opens(part.set_id, new) for part in (first, second)] == [False, True]
    assert [opens(part.set_id, f"{new}\n{site.identity}\n") for part in (first, second)] == [True, True]
    assert age_recipient(f"{new}\n{site.identity}\n") == age_recipient(new)
