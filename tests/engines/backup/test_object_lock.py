"""A bucket with object lock keeps what it was given, from a key that may not delete and from one that may."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dbkeep.backup.catalog import catalog
from dbkeep.backup.settings import BackupHost, S3StoreSettings
from dbkeep.backup.stores.copies import parts_of
from dbkeep.backup.stores.object_lock import prepare, prove
from dbkeep.backup.stores.object_lock_policy import lifecycle, policy
from dbkeep.backup.stores.s3 import S3Store
from dbkeep.backup.stores.store import StoreError
from dbkeep.backup.verify import verify
from dbkeep.evidence import now
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server

from .conftest import Site
from .stores import BUCKET, bucket, client, with_stores


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[S3Server]:
    with s3.locking(folder / "locking") as running:
        yield running


def demand_policies(server: S3Server) -> None:
    """From now on every request needs a key whose policy allows it."""
    request = urllib.request.Request(  # noqa: S310 - the address is this test's own server
        f"{server.endpoint}/moto-api/reset-auth",
        data=b"0",
        headers={"Content-Type": "application/octet-stream"},
        method="POST",
    )
    context = ssl.create_default_context(cafile=str(server.ca_file))
    urllib.request.urlopen(request, context=context).close()  # noqa: S310


def new_key(server: S3Server, name: str, document: dict[str, Any]) -> dict[str, str]:
    """A user with this policy; its key as settings of a store want it."""
    iam = client(server, "iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="backup", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"access_key_id": key["AccessKeyId"], "key": key["SecretAccessKey"]}


@pytest.fixture(scope="module")
def everything(server: S3Server) -> dict[str, str]:
    """A key that may do anything."""
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    return new_key(server, "administrator", {"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture(scope="module")
def host(site: Site, server: S3Server, folder: Path, everything: dict[str, str]) -> BackupHost:
    """The host with a bucket that was prepared by an administrator, and a key with the policy that dbkeep prints."""
    administrator = bucket(server, folder, **everything)
    assert prepare(S3Store(administrator), site.host.settings) == [
        "made the bucket, with versions, object lock and a lifecycle"
    ]
    assert prepare(S3Store(administrator), site.host.settings) == []
    key = new_key(server, "host", policy(administrator))
    demand_policies(server)
    return with_stores(site, [bucket(server, folder, **key, lock_days=30)])


@pytest.fixture(scope="module")
def set_id(site: Site, host: BackupHost) -> str:
    return site.take((), host)["redis"].set_id


def store_of(host: BackupHost) -> S3Store:
    (settings,) = host.settings.stores
    assert isinstance(settings, S3StoreSettings)
    return S3Store(settings)


def test_a_key_that_may_not_delete_is_enough_to_copy_list_and_verify(host: BackupHost, set_id: str) -> None:
    assert catalog(host)["stores"]["offsite"]["parts"] == [
        f"{set_id}/{engine}" for engine in ("mongodb", "postgresql", "redis")
    ]
    assert verify(host, set_id, None, "offsite")["ok"]
    store = store_of(host)
    for key in store.sizes(f"sets/{set_id}/redis/"):
        with pytest.raises(ClientError, match="AccessDenied"):
            store.client.delete_object(Bucket=BUCKET, Key=store.settings.prefix + key)


def test_all_that_is_copied_is_locked_and_what_later_backups_need_for_longer(
    set_id: str, server: S3Server, everything: dict[str, str], tmp_path: Path
) -> None:
    store = S3Store(bucket(server, tmp_path, **everything))
    keys = store.sizes("")
    assert (set_id, "postgresql") in parts_of(keys)
    assert any(key.startswith("postgresql/") for key in keys)
    for key in keys:
        found = store.client.head_object(Bucket=BUCKET, Key=store.settings.prefix + key)
        days = 30 + (7 if key.startswith("postgresql/") else 0)
        assert found["ObjectLockMode"] == "COMPLIANCE"
        assert found["ObjectLockRetainUntilDate"] > now() + timedelta(days=days, hours=-1), key


def test_whoever_may_delete_anything_cannot_delete_a_version_of_a_copy(
    host: BackupHost, set_id: str, server: S3Server, everything: dict[str, str], tmp_path: Path
) -> None:
    settings = bucket(server, tmp_path, **everything)
    store = S3Store(settings)
    listed = store.client.list_object_versions(Bucket=BUCKET, Prefix=f"{settings.prefix}sets/{set_id}/")["Versions"]
    assert len(listed) >= 8
    for version in listed:
        for bypass in ({}, {"BypassGovernanceRetention": True}):
            with pytest.raises(ClientError, match="AccessDenied"):
                store.client.delete_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"], **bypass)
    assert verify(host, set_id, None, "offsite")["ok"]


def test_the_proof_holds_for_a_key_that_may_delete_so_it_is_the_lock_that_refuses(
    host: BackupHost, server: S3Server, everything: dict[str, str], tmp_path: Path
) -> None:
    wanted = {"versioned": True, "mode": "COMPLIANCE", "kept": True, "faults": []}
    assert prove(S3Store(bucket(server, tmp_path, **everything))) == wanted
    assert prove(store_of(host)) == wanted


@pytest.mark.usefixtures("host")
def test_a_bucket_without_object_lock_fails_the_proof_until_it_is_prepared(
    site: Site, server: S3Server, everything: dict[str, str], tmp_path: Path
) -> None:
    store = S3Store(bucket(server, tmp_path, **everything, bucket="not-locked"))
    store.client.create_bucket(Bucket="not-locked")
    with pytest.raises(StoreError, match=r"a locked canary cannot be put: .*Lock"):
        prove(store)
    assert prepare(store, site.host.settings) == ["turned versions and object lock on"]
    assert prove(store)["faults"] == []


def test_a_store_that_ignores_the_headers_of_a_lock_is_caught(tmp_path: Path) -> None:
    with s3.plain(tmp_path / "plain") as server:
        client(server).create_bucket(Bucket=BUCKET)
        found = prove(S3Store(bucket(server, tmp_path, checksums=False)))
    # It even says that the canary is locked, as it was told: only trying to delete it finds out.
    assert found == {
        "versioned": False,
        "mode": "COMPLIANCE",
        "kept": False,
        "faults": [
            "it keeps no versions: what is overwritten is lost",
            "a version that is locked could be deleted",
        ],
    }


def test_the_lifecycle_lets_nothing_go_that_is_locked_or_needed(server: S3Server, tmp_path: Path) -> None:
    rules = {
        rule["Filter"]["Prefix"]: rule["Expiration"]["Days"]
        for rule in lifecycle(bucket(server, tmp_path, lock_days=30), 14, 7)["Rules"]
    }
    assert rules == {
        "production/sets/": 31,
        "production/log/": 31,
        "production/points/": 31,
        "production/postgresql/": 38,
        "production/lock-canary": 1,
    }


def test_the_policy_allows_no_deletion(server: S3Server, tmp_path: Path) -> None:
    actions = [action for entry in policy(bucket(server, tmp_path))["Statement"] for action in entry["Action"]]
    assert "s3:PutObject" in actions
    assert not [action for action in actions if "Delete" in action or "Bypass" in action or "*" in action]
