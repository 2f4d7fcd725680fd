"""Who can write the stores but not sign cannot make a host restore his data; older sets are signed on their host."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbkeep.backup.catalog import catalog
from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import SIGNATURE_NAME, Count, Part, write_part
from dbkeep.backup.redis import FILE_NAME
from dbkeep.backup.restore.run import plan, restore
from dbkeep.backup.sealed_file import seal
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.sign_sets import sign_sets, unsigned_parts
from dbkeep.backup.signature import new_signing_key, public_half
from dbkeep.backup.stores.copies import copy_all
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.connect import connect as redis
from dbkeep.sandbox import redis as redis_sandbox
from dbkeep.sandbox.s3 import S3Server

from ... import signing
from .conftest import Site
from .stores import BUCKET, bucket, client, directory, with_stores

STORES = ("nas", "offsite")
REFUSED = "not signed"


@pytest.fixture(scope="module")
def host(site: Site, server: S3Server, folder: Path) -> BackupHost:
    return with_stores(site, [directory(folder / "nas"), bucket(server, folder, lock_days=1)])


@dataclass
class Forgery:
    """A part with the attacker's data, right in everything that can be made from public keys, in a folder."""

    genuine: Part
    part: Part
    folder: Path


@pytest.fixture(scope="module")
def forgery(site: Site, host: BackupHost, folder: Path) -> Forgery:
    genuine = site.take(("redis",), host)["redis"]
    forged = folder / "forged"
    forged.mkdir()
    with redis_sandbox.start(folder / "evil", {"state": {"appendonly": "no"}}) as his:
        with redis("state", his.instances["state"]) as connection:
            connection.set("sess:his", "an administrator's session", ex=86400)
            connection.save()
        stored = seal([(folder / "evil/state/dump.rdb").read_bytes()], forged / FILE_NAME, genuine.recipients)
    changed = {
        "files": (stored,),
        "counts": {"state/sess:": Count(low=1, high=1)},
        "digests": {},
        "details": {**genuine.details, "keys": 1, "functions": 0},
    }
    return Forgery(genuine, genuine.model_copy(update=changed), forged)


def nothing(_forgery: Forgery, _host: BackupHost) -> None:
    """He takes the signature away, as if the set were older than the key."""


def his_own_key(forgery: Forgery, _host: BackupHost) -> None:
    write_part(forgery.folder, forgery.part, signing.write_key(forgery.folder.parent, new_signing_key(), "his-key"))


def that_of_the_set(forgery: Forgery, host: BackupHost) -> None:
    shutil.copy(host.settings.repository / forgery.part.folder / SIGNATURE_NAME, forgery.folder)


def the_hosts_key(forgery: Forgery, host: BackupHost) -> None:
    write_part(forgery.folder, forgery.part, host.settings.signing_key_file)


def put(forgery: Forgery, host: BackupHost, signed: Callable[[Forgery, BackupHost], None], server: S3Server) -> None:
    """Overwrite the set in both stores, as a key may that puts and deletes."""
    the_hosts_key(forgery, host)
    (forgery.folder / SIGNATURE_NAME).unlink()
    signed(forgery, host)
    nas = next(store.path for store in host.settings.stores if store.name == "nas" and hasattr(store, "path"))
    shutil.rmtree(nas / forgery.part.folder)
    shutil.copytree(forgery.folder, nas / forgery.part.folder)
    storage = client(server)
    storage.delete_object(Bucket=BUCKET, Key=f"production/{forgery.part.folder}/{SIGNATURE_NAME}")
    for path in forgery.folder.iterdir():
        storage.put_object(Bucket=BUCKET, Key=f"production/{forgery.part.folder}/{path.name}", Body=path.read_bytes())


@pytest.fixture
def signed(host: BackupHost, forgery: Forgery, server: S3Server, request: pytest.FixtureRequest) -> Forgery:
    put(forgery, host, request.param, server)
    return forgery


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("signed", [nothing, his_own_key, that_of_the_set], indirect=True)
def test_a_set_that_is_sealed_to_us_and_not_signed_by_us_is_refused_everywhere(
    site: Site, host: BackupHost, signed: Forgery, store: str
) -> None:
    set_id = signed.part.set_id
    running = site.services["redis"].settings
    attempts: list[Callable[[], object]] = [
        lambda: plan(host, set_id, ["redis"], store),
        lambda: restore(host, set_id, ["redis"], site.identity, store=store, services=site.services),
        lambda: drill(host, set_id, ["redis"], site.identity, store=store),
    ]
    for refused in attempts:
        with pytest.raises(DbkeepError, match=rf"store {store}: .*{REFUSED}") as error:
            refused()
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="has no set with redis"):
        restore(host, "newest", ["redis"], site.identity, store=store, services=site.services)
    (line,) = verify(host, set_id, ["redis"], store)["problems"]["redis"]
    assert REFUSED in line
    listed = catalog(host, store)
    assert listed["parts"] == []
    assert [REFUSED in line for line in listed["damaged"]] == [True]
    assert site.services["redis"].settings is running
    with redis(*site.state()) as connection:
        assert connection.exists("sess:his") == 0
    copy_all(host, again=set_id)
    assert verify(host, set_id, ["redis"])["copies"] == {"local": True, "nas": True, "offsite": True}


def test_the_same_set_would_restore_if_a_host_had_signed_it(
    site: Site, host: BackupHost, forgery: Forgery, server: S3Server
) -> None:
    """What is refused above is refused for its signature alone."""
    put(forgery, host, the_hosts_key, server)
    evidence = drill(host, forgery.part.set_id, ["redis"], site.identity, store="offsite")
    assert evidence["result"] == "passed", evidence["observed"]
    copy_all(host, again=forgery.part.set_id)


def test_a_part_that_was_moved_to_another_set_is_refused(site: Site, host: BackupHost) -> None:
    first, second = (site.take(("redis",), host)["redis"] for _ in range(2))
    nas = next(store.path for store in host.settings.stores if hasattr(store, "path"))
    shutil.rmtree(nas / second.folder)
    shutil.copytree(nas / first.folder, nas / second.folder)
    with pytest.raises(DbkeepError, match="it is not of this part"):
        drill(host, second.set_id, ["redis"], site.identity, store="nas")
    copy_all(host, again=second.set_id)


def test_sets_from_before_the_key_are_refused_until_they_are_signed_on_their_host(site: Site, host: BackupHost) -> None:
    good, rotten = (site.take(("redis",), host)["redis"] for _ in range(2))
    for part in (good, rotten):
        for root in (host.settings.repository, host.settings.stores[0].path):  # type: ignore[union-attr]
            (root / part.folder / SIGNATURE_NAME).unlink()
    path = site.file(rotten)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert sorted(unsigned_parts(host)) == [(good.set_id, "redis"), (rotten.set_id, "redis")]
    with pytest.raises(DbkeepError, match="not signed: it is older than the environment's signing key, or no"):
        plan(host, good.set_id, ["redis"])
    with pytest.raises(DbkeepError, match=rf"not signed: {rotten.set_id}/redis: .*altered"):
        sign_sets(host)
    assert unsigned_parts(host) == [(rotten.set_id, "redis")]
    path.write_bytes(content)
    assert sign_sets(host) == [f"{rotten.set_id}/redis"]
    assert sign_sets(host) == []
    assert drill(host, good.set_id, ["redis"], site.identity)["result"] == "passed"
    with pytest.raises(DbkeepError, match=REFUSED):
        plan(host, good.set_id, ["redis"], "nas")
    copied = copy_all(host)["stores"]["nas"]["copied"]
    assert sorted(copied) == [f"{good.set_id}/redis", f"{rotten.set_id}/redis"]
    assert verify(host, good.set_id, ["redis"])["ok"]


def test_keys_rotate_and_a_key_that_no_reader_knows_signs_nothing(site: Site, host: BackupHost, folder: Path) -> None:
    old = site.take(("redis",), host)["redis"]
    key = new_signing_key()
    file = signing.write_key(folder, key, "new-key")
    with pytest.raises(UsageError, match="its public half is not in backup_signing_keys"):
        site.take(("redis",), with_stores(site, [], signing_key_file=file))
    both = with_stores(site, [], signing_key_file=file, signing_keys=(*host.settings.signing_keys, public_half(key)))
    new = site.take(("redis",), both)["redis"]
    assert new.signed_by == public_half(key)
    for part in (old, new):
        assert verify(both, part.set_id, ["redis"])["ok"]
    only = with_stores(site, [], signing_keys=(public_half(key),))
    assert verify(only, new.set_id, ["redis"])["ok"]
    assert REFUSED in verify(only, old.set_id, ["redis"])["problems"]["redis"][0]
    assert REFUSED in verify(host, new.set_id, ["redis"], "local")["problems"]["redis"][0]
