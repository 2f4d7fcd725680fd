"""Object lock: makes a bucket that keeps what it was given, and proves it by trying to delete.

A store can take the headers of a lock and ignore them. So a canary is put with a lock of a day, and that very version
must refuse to go, also when governance is to be bypassed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from dbkeep.backup.retention import Keep
from dbkeep.backup.settings import BackupSettings
from dbkeep.backup.stores.object_lock_policy import CANARY, CANARY_DAYS, lifecycle
from dbkeep.backup.stores.s3 import S3Store, locked_for

NO_BUCKET = ("404", "NoSuchBucket")
GONE = ("404", "NoSuchKey", "NoSuchVersion")
NO_LOCK = ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration")


def prove(store: S3Store) -> dict[str, Any]:
    """Try to delete a locked canary and return what was observed; `faults` is empty when the store keeps its word.

    Raises StoreError when the store does not even take the canary.
    """
    where = {"Bucket": store.settings.bucket, "Key": store.settings.prefix + CANARY}
    reply = store.ask(
        "a locked canary cannot be put",
        lambda: store.client.put_object(**where, Body=b"dbkeep\n", **locked_for(CANARY_DAYS)),
    )
    version = reply.get("VersionId")
    if version in (None, "null"):
        version = None
    else:
        where["VersionId"] = version
    mode = _head(store, where).get("ObjectLockMode")
    for bypass in ({}, {"BypassGovernanceRetention": True}):
        # What a refusal is called differs between stores: whether the canary is still there does not.
        with suppress(ClientError):
            store.client.delete_object(**where, **bypass)
    kept = bool(_head(store, where))
    faults = []
    if version is None:
        faults.append("it keeps no versions: what is overwritten is lost")
    if mode != "COMPLIANCE":
        faults.append(f"it did not lock what was put in compliance mode, but as {mode or 'nothing'}")
    if not kept:
        faults.append("a version that is locked could be deleted")
    return {"versioned": version is not None, "mode": mode, "kept": kept, "faults": faults}


def _head(store: S3Store, where: dict[str, Any]) -> dict[str, Any]:
    found = store.ask("the canary cannot be read", lambda: store.client.head_object(**where), unless=GONE)
    return dict(found or {})


def prepare(store: S3Store, settings: BackupSettings) -> list[str]:
    """Make the bucket, with versions, locks and a lifecycle, or turn versions and locks on in it; say what was done.

    Nothing is done to a bucket that has them. Raises StoreError when the key may not do that.
    """
    bucket = {"Bucket": store.settings.bucket}
    there = store.ask("cannot be looked at", lambda: store.client.head_bucket(**bucket), unless=NO_BUCKET)
    if there is None:
        region = store.settings.region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        store.ask(
            "the bucket cannot be made",
            lambda: store.client.create_bucket(**bucket, **place, ObjectLockEnabledForBucket=True),
        )
        rules = lifecycle(store.settings, Keep.of(settings).span_days, store.chain_days)
        store.ask(
            "the lifecycle cannot be set",
            lambda: store.client.put_bucket_lifecycle_configuration(**bucket, LifecycleConfiguration=rules),
        )
        return ["made the bucket, with versions, object lock and a lifecycle"]
    found = store.ask(
        "its object lock cannot be read",
        lambda: store.client.get_object_lock_configuration(**bucket),
        unless=NO_LOCK,
    )
    if found and found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled":
        return []
    store.ask(
        "versions cannot be turned on",
        lambda: store.client.put_bucket_versioning(**bucket, VersioningConfiguration={"Status": "Enabled"}),
    )
    store.ask(
        "object lock cannot be turned on",
        lambda: store.client.put_object_lock_configuration(
            **bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        ),
    )
    return ["turned versions and object lock on"]
