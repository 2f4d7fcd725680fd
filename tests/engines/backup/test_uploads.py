"""Uploads to a bucket: killed at any moment, into a store that is full, of files larger than the memory allowed."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from hashlib import sha256
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.copies import copy_all, parts_of
from dbkeep.backup.stores.store import open_store
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect as redis
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server

from .conftest import Site
from .stores import BUCKET, bucket, client, with_stores

MEBIBYTE = 1 << 20
# So many keys of a mebibyte that the copy is still under way when the test looks, on a busy machine too.
LARGE = 40
KILLS = 12


@pytest.fixture(scope="module")
def host(site: Site, server: S3Server, folder: Path) -> BackupHost:
    return with_stores(site, [bucket(server, folder, lock_days=1)])


def uploads(server: S3Server) -> list[str]:
    return [upload["Key"] for upload in client(server).list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())]


def start_copy(host: BackupHost) -> BaseProcess:
    copying = multiprocessing.get_context("spawn").Process(target=copy_all, args=(host,))
    copying.start()
    return copying


def kill(process: BaseProcess) -> None:
    process.kill()
    process.join()


def test_a_copy_killed_at_random_moments_harms_nothing_and_is_finished_by_the_next(
    site: Site, host: BackupHost, server: S3Server
) -> None:
    before = site.take(("redis",), host)["redis"].set_id
    with redis(*site.state()) as connection:
        for number in range(LARGE):
            connection.set(f"sess:large-{number}", os.urandom(MEBIBYTE), ex=3600)
    part = site.take(("redis",))["redis"]
    assert part.stored_bytes > LARGE * MEBIBYTE
    store = open_store(host, "offsite")

    copying = start_copy(host)
    while not uploads(server):
        assert copying.is_alive()
        time.sleep(0.005)
    kill(copying)
    assert any(part.set_id in key for key in uploads(server)), "the first was killed in the middle of a file"
    dice = random.Random(4712)  # noqa: S311 - the same moments in every run
    for _ in range(KILLS):
        copying = start_copy(host)
        copying.join(dice.uniform(0.5, 1.5))
        kill(copying)
        assert verify(host, before, ["redis"], "offsite")["ok"]
        there = (part.set_id, "redis") in parts_of(store.sizes(""))
        assert not there or verify(host, part.set_id, ["redis"], "offsite")["ok"]

    copy_all(host)
    assert uploads(server) == []
    assert verify(host, part.set_id, ["redis"], "offsite")["ok"]
    with redis(*site.state()) as connection:
        connection.delete(*[f"sess:large-{number}" for number in range(LARGE)])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_bucket_that_is_full_keeps_what_it_has(site: Site, folder: Path, tmp_path: Path) -> None:
    small = folder / "full" / "data"
    small.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        with s3.plain(folder / "full") as server:
            client(server).create_bucket(Bucket=BUCKET)
            host = with_stores(site, [bucket(server, tmp_path, lock_days=0, checksums=False)])
            with redis(*site.state()) as connection:
                connection.set("sess:large", os.urandom(100_000), ex=60)
            first = site.take(("redis",))["redis"]
            with pytest.raises(DbkeepError, match=r"store offsite .*cannot be put"):
                copy_all(host)
            subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
            copy_all(host)
            assert verify(host, first.set_id, ["redis"], "offsite")["ok"]
    finally:
        subprocess.run(["umount", small], check=True)


PUT_AND_GET = """
import resource, sys
from pathlib import Path
from dbkeep.backup.stores.s3 import S3Store
from dbkeep.backup.settings import S3StoreSettings

source = Path(sys.argv[2])
store = S3Store(S3StoreSettings.model_validate_json(sys.argv[1]))
store.sizes("")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.put("sets/large", source, sys.argv[3])
with source.with_suffix(".back").open("wb") as target:
    store.get("sets/large", target)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    size = 160 * MEBIBYTE
    source = tmp_path / "large"
    block = os.urandom(MEBIBYTE)
    source.write_bytes(block * 160)
    with s3.plain(tmp_path / "plain") as server:
        client(server).create_bucket(Bucket=BUCKET)
        settings = bucket(server, tmp_path, lock_days=0, checksums=False, part_mebibytes=16)
        digest = sha256(source.read_bytes()).hexdigest()
        command = [sys.executable, "-c", PUT_AND_GET, settings.model_dump_json(), str(source), digest]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert source.with_suffix(".back").stat().st_size == size
    assert int(done.stdout) < 100, "MiB for both ways of 160 MiB, in parts of 16 MiB"
