"""What the administrator of an S3 store sets: the policy of the host's key, and the lifecycle of the bucket."""

from __future__ import annotations

from typing import Any

from dbkeep.backup.settings import S3StoreSettings

CANARY = "lock-canary"
CANARY_DAYS = 1


def policy(store: S3StoreSettings) -> dict[str, Any]:
    """Return the policy to give to the host's key: it may put, list and get below its prefix, and delete nothing."""
    bucket = f"arn:aws:s3:::{store.bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"],
                "Resource": [bucket],
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:PutObject",
                    "s3:PutObjectRetention",
                    "s3:GetObject",
                    "s3:GetObjectVersion",
                    "s3:GetObjectRetention",
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
                "Resource": [f"{bucket}/{store.prefix}*"],
            },
        ],
    }


def lifecycle(store: S3StoreSettings, span_days: int, full_after_days: int) -> dict[str, Any]:
    """Return the bucket's lifecycle: the store itself lets sets go, because the host's key may not.

    `span_days` is for how long retention may keep a set: a bucket knows ages only. Files of pgBackRest stay
    `full_after_days` longer, because later backups build on them.
    """
    days = max(store.lock_days, span_days) + 1
    return {
        "Rules": [
            _rule(f"dbkeep {name}", f"{store.prefix}{name}", kept)
            for name, kept in (
                ("sets/", days),
                ("log/", days),
                ("points/", days),
                ("postgresql/", days + full_after_days),
                (CANARY, CANARY_DAYS),
            )
        ]
    }


def _rule(name: str, prefix: str, days: int) -> dict[str, Any]:
    return {
        "ID": name,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "Expiration": {"Days": days},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    }
