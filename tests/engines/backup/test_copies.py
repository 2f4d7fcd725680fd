"""Copies of sets in stores: made, caught up, compared byte by byte, and one that fails never stops another."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dbkeep.backup.catalog import catalog
from dbkeep.backup.manifest import FILE_NAME, read_part, set_id_of
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.copies import copy_all, parts_of
from dbkeep.backup.stores.s3 import read_secret_key
from dbkeep.backup.stores.store import open_store
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now, read_all
from dbkeep.ports import free_port
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server

from .conftest import CANARY, Site
from .stores import BUCKET, bucket, client, directory, with_stores


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[S3Server]:
    with s3.plain(folder / "plain") as server:
        client(server).create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture(scope="module")
def host(site: Site, folder: Path, plain: S3Server) -> BackupHost:
    """The host with a directory and a bucket, and one set in both."""
    found = with_stores(site, [directory(folder / "nas"), bucket(plain, folder, lock_days=0, checksums=False)])
    site.take(host=found)
    return found


@pytest.fixture(scope="module")
def set_id(host: BackupHost) -> str:
    return max(set_id for set_id, _ in parts_of(open_store(host, "nas").sizes("")))


STORES = ("nas", "offsite")


def root_of(store: str, folder: Path) -> Path:
    """Where the bytes of a store lie on this machine's disk."""
    return {"nas": folder / "nas", "offsite": folder / "plain" / "data" / BUCKET / "production"}[store]


@pytest.mark.parametrize("store", STORES)
def test_a_run_leaves_a_copy_of_every_part_in_every_store(
    host: BackupHost, set_id: str, store: str, folder: Path
) -> None:
    assert verify(host, set_id, None, store) == {
        "set_id": set_id,
        "ok": True,
        "copies": {store: True},
        "problems": {"mongodb": [], "postgresql": [], "redis": []},
    }
    found = catalog(host)
    assert found["stores"][store]["parts"] == [f"{set_id}/{engine}" for engine in ("mongodb", "postgresql", "redis")]
    assert catalog(host, store)["parts"] == sorted(found["parts"], key=lambda part: part["recovery_point"]["at"])
    stored = [path for path in root_of(store, folder).rglob("*") if path.is_file()]
    assert [path for path in stored if CANARY.encode() in path.read_bytes()] == []


def test_a_second_run_sends_only_what_is_new(host: BackupHost) -> None:
    assert copy_all(host) == {"stores": {name: {"copied": [], "failed": []} for name in STORES}}


@pytest.mark.parametrize("store", STORES)
def test_sha256sum_alone_finds_a_copy_good(set_id: str, store: str, folder: Path) -> None:
    for engine in ("postgresql", "mongodb", "redis"):
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
            cwd=root_of(store, folder) / "sets" / set_id / engine,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


ALL_ENGINES = ("postgresql", "mongodb", "redis")
COPIES = [
    # pgBackRest reads all of the live repository each of the 50 times.
    ("local", ("mongodb", "redis")),
    pytest.param("local", ALL_ENGINES, marks=pytest.mark.long),
    *((store, ALL_ENGINES) for store in STORES),
]


@pytest.mark.parametrize(("store", "engines"), COPIES)
def test_bit_rot_in_50_random_places_is_found_50_times(
    host: BackupHost, set_id: str, store: str, engines: tuple[str, ...], folder: Path
) -> None:
    """Every file of the set can be hit, as likely as it is large; manifests and digests are hit on purpose."""
    parts = {engine: read_part(host.sets, set_id, engine, host.settings.signing_keys) for engine in engines}
    files = {stored.name: engine for engine in engines for stored in parts[engine].stored_files()}
    for engine in engines:
        files |= {f"sets/{set_id}/{engine}/{name}": engine for name in (FILE_NAME, "SHA256SUMS", "SHA256SUMS.sig")}
    root = host.settings.repository if store == "local" else root_of(store, folder)
    dice = random.Random(4711)  # noqa: S311 - the same places in every run
    sizes = [(root / name).stat().st_size for name in files]
    hit = [*list(files)[-3:], *dice.choices(list(files), sizes, k=47)]
    found = 0
    for name in hit:
        path, engine = root / name, files[name]
        content = path.read_bytes()
        place = dice.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << dice.randrange(8))]) + content[place + 1 :])
        result = verify(host, set_id, [engine], store)
        found += not result["ok"] and bool(result["problems"][engine])
        path.write_bytes(content)
    assert found == 50
    assert verify(host, set_id, engines, store)["ok"]


@pytest.mark.parametrize("store", STORES)
def test_a_missing_file_is_named_and_copied_again_when_asked(
    host: BackupHost, set_id: str, store: str, folder: Path
) -> None:
    path = next((root_of(store, folder) / "sets" / set_id / "redis").glob("*.age"))
    path.unlink()
    found = verify(host, set_id, ["redis"], store)
    assert f"store {store}" in found["problems"]["redis"][0]
    assert path.name in found["problems"]["redis"][0]
    copy_all(host, again=set_id)
    assert verify(host, set_id, None, store)["ok"]


def test_a_rotten_part_is_not_copied_and_does_not_stop_the_others(site: Site, folder: Path) -> None:
    alone = with_stores(site, [directory(folder / "empty", "empty")])
    part = site.take(("redis",))["redis"]
    path = site.file(part)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DbkeepError, match=rf"store empty: set {part.set_id}, redis: .*altered"):
        copy_all(alone)
    there = parts_of(open_store(alone, "empty").sizes(""))
    assert (part.set_id, "redis") not in there
    assert {engine for _, engine in there} == {"postgresql", "mongodb", "redis"}
    path.write_bytes(content)
    copy_all(alone)
    assert (part.set_id, "redis") in parts_of(open_store(alone, "empty").sizes(""))


def test_a_store_that_is_gone_is_named_the_other_stays_good_and_the_next_run_catches_up(
    site: Site, folder: Path
) -> None:
    """An hour without the store is two runs that fail; then it is back with what it had."""
    port = free_port()
    with s3.plain(folder / "coming-and-going", port=port) as server:
        client(server).create_bucket(Bucket=BUCKET)
        gone = bucket(server, folder, name="gone", lock_days=0, checksums=False)
        host = with_stores(site, [gone, directory(folder / "steady", "steady")])
        before = site.take(("redis",), host)["redis"].set_id
    missed = []
    for _ in range(2):
        with pytest.raises(DbkeepError, match=r"store gone \(https://127.0.0.1:\d+/copies\): .*other copies are untou"):
            site.take(("redis",), host)
        missed.append(catalog(host)["parts"][-1]["set_id"])
    assert catalog(host)["stores"]["gone"]["error"]
    assert {f"{set_id}/redis" for set_id in missed} <= set(catalog(host)["stores"]["steady"]["parts"])
    record = next(read_all("copy", site.host.settings.evidence))
    assert record["result"] == "failed"
    with s3.plain(folder / "coming-and-going", port=port):
        copied = copy_all(host)["stores"]["gone"]["copied"]
        assert {f"{set_id}/redis" for set_id in missed} <= set(copied)
        assert f"{before}/redis" not in copied
        for set_id in (before, *missed):
            assert verify(host, set_id, ["redis"], "gone")["ok"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_store_keeps_what_it_has_and_is_caught_up_when_there_is_room(site: Site, folder: Path) -> None:
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", small], check=True)
    try:
        host = with_stores(site, [directory(small, "small").model_copy(update={"off_host": True})])
        with pytest.raises(
            DbkeepError, match=r"store small: .*No space left on device; the other copies are untouched"
        ):
            copy_all(host)
        assert not list(small.rglob("*.partial"))
        held = parts_of(open_store(host, "small").sizes(""))
        for set_id, engine in held:
            assert verify(host, set_id, [engine], "small")["ok"]
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
        copy_all(host)
        assert held < parts_of(open_store(host, "small").sizes(""))
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_directory_that_is_not_mounted_is_not_taken_for_another_host(site: Site, folder: Path) -> None:
    host = with_stores(site, [directory(folder / "not-mounted", "nas").model_copy(update={"off_host": True})])
    with pytest.raises(DbkeepError, match="is on the same filesystem as the repository: mount what it stands for"):
        copy_all(host)


def test_a_directory_lets_old_sets_go_with_what_only_they_need(site: Site, folder: Path) -> None:
    host = with_stores(site, [directory(folder / "pruned", "pruned")])
    copy_all(host)
    store = open_store(host, "pruned")
    old = now().replace(year=2020)
    source = (
        folder / "pruned" / "sets" / max(set_id for set_id, engine in parts_of(store.sizes("")) if engine == "redis")
    )
    shutil.copytree(source / "redis", folder / "pruned" / "sets" / set_id_of(old) / "redis")
    (folder / "pruned" / "postgresql" / "archive" / "chat" / "of-an-old-set").write_bytes(b"x")
    copy_all(host)
    keys = store.sizes("")
    assert not [key for key in keys if set_id_of(old) in key or "of-an-old-set" in key]
    for set_id, engine in parts_of(keys):
        assert verify(host, set_id, [engine], "pruned")["ok"]


@pytest.mark.parametrize(
    ("mode", "content", "refusal"),
    [
        (0o600, "", "does not hold one secret key"),
        (0o644, "a-secret-key-of-this-test", "has mode 0644, so others can read or change the key"),
        (None, "", "the key cannot be read: No such file or directory"),
    ],
)
def test_a_key_file_that_is_not_right_is_refused(tmp_path: Path, mode: int | None, content: str, refusal: str) -> None:
    settings = bucket(S3Server(1, tmp_path / "ca.crt"), tmp_path)
    if mode is None:
        settings.secret_key_file.unlink()
    else:
        settings.secret_key_file.write_text(content)
        settings.secret_key_file.chmod(mode)
    with pytest.raises(UsageError, match=f"store offsite: .*{refusal}") as refused:
        read_secret_key(settings)
    assert "a-secret-key" not in str(refused.value)


def test_a_wrong_key_is_refused_by_the_store_and_is_one_line(site: Site, plain: S3Server, tmp_path: Path) -> None:
    host = with_stores(site, [bucket(plain, tmp_path, lock_days=0, key="wrong-key")])
    with pytest.raises(DbkeepError, match=r"store offsite .*SignatureDoesNotMatch|AccessDenied|403") as refused:
        copy_all(host)
    assert "\n" not in str(refused.value)
    assert "wrong-key" not in str(refused.value)


def test_another_authority_is_refused(site: Site, plain: S3Server, tmp_path: Path) -> None:
    host = with_stores(site, [bucket(plain, tmp_path, lock_days=0, ca_file=None)])
    with pytest.raises(DbkeepError, match=r"certificate verify failed|SSL validation failed"):
        copy_all(host)


def test_a_set_is_verified_in_every_copy_and_the_bad_one_is_named(host: BackupHost, set_id: str, folder: Path) -> None:
    good = {"local": True, "nas": True, "offsite": True}
    assert verify(host, set_id)["copies"] == good
    path = root_of("offsite", folder) / "sets" / set_id / "redis" / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content.replace(b"redis", b"rodis", 1))
    found = verify(host, set_id, ["redis"])
    assert (found["ok"], found["copies"]) == (False, {**good, "offsite": False})
    damaged = catalog(host, "offsite")
    assert [line for line in damaged["damaged"] if "store offsite" in line and "manifest is damaged" in line]
    assert f"{set_id}/redis" not in {f"{part['set_id']}/{part['engine']}" for part in damaged["parts"]}
    assert damaged["parts"], "the other parts are listed"
    copy_all(host, again=set_id)
    assert verify(host, set_id)["copies"] == good


def test_a_store_that_comes_back_between_two_attempts_is_not_even_noticed(site: Site, folder: Path) -> None:
    port = free_port()
    with s3.plain(folder / "blinking", port=port) as server:
        client(server).create_bucket(Bucket=BUCKET)
    settings = bucket(server, folder, name="blinking", lock_days=0, checksums=False, attempts=12)
    with ThreadPoolExecutor() as pool:
        copying = pool.submit(copy_all, with_stores(site, [settings]))
        time.sleep(1)
        assert not copying.done()
        with s3.plain(folder / "blinking", port=port):
            assert copying.result()["stores"]["blinking"]["copied"]


def test_an_unknown_store_is_refused(host: BackupHost, set_id: str) -> None:
    with pytest.raises(UsageError, match="this host has no store 'other'; backup_stores names nas, offsite"):
        verify(host, set_id, None, "other")
    with pytest.raises(UsageError, match="set 20200101T000000Z is not in store nas"):
        verify(host, "20200101T000000Z", None, "nas")
