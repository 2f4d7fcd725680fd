"""An S3-compatible store: put, list and get, by TLS, with a key that need not be allowed to delete anything.

Large files go up in parts, a few in memory at a time. What is put is locked for the declared days and digested on both
sides where the store can do that.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from dbkeep.backup.settings import S3StoreSettings
from dbkeep.backup.stores.store import StoreError, belongs_to
from dbkeep.errors import UsageError
from dbkeep.evidence import now
from dbkeep.files import open_mode

T = TypeVar("T")
PARTS_IN_FLIGHT = 2
MEBIBYTE = 1 << 20
# What stores answer that have no unfinished upload, or do not tell of them.
NO_UPLOADS = ("NoSuchUpload", "NotImplemented", "MethodNotAllowed")


class S3Store:
    """One bucket, below one prefix. Files of pgBackRest stay locked for `chain_days` more: later backups need them."""

    def __init__(self, settings: S3StoreSettings, chain_days: int = 0) -> None:
        self.name = settings.name
        self.off_host = settings.off_host
        self.settings = settings
        self.chain_days = chain_days
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            verify=str(settings.ca_file) if settings.ca_file else True,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=read_secret_key(settings),
            config=_configuration(settings),
        )
        self._transfer = TransferConfig(
            multipart_threshold=settings.part_mebibytes * MEBIBYTE,
            multipart_chunksize=settings.part_mebibytes * MEBIBYTE,
            max_concurrency=PARTS_IN_FLIGHT,
        )

    def sizes(self, prefix: str) -> dict[str, int]:
        start = len(self.settings.prefix)

        def listed() -> dict[str, int]:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket, Prefix=self.settings.prefix + prefix
            )
            return {entry["Key"][start:]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

        return self.ask("cannot be listed", listed)

    def put(self, key: str, source: Path, sha256: str) -> None:
        extra = {**self.lock(key), "Metadata": {"sha256": sha256}}
        size = source.stat().st_size
        if self.settings.checksums:
            extra["ChecksumAlgorithm"] = "SHA256"
        if self.settings.checksums and size < self._transfer.multipart_threshold:
            extra["ChecksumSHA256"] = base64.b64encode(binascii.unhexlify(sha256)).decode()

        def upload() -> None:
            self.client.upload_file(
                str(source), self.settings.bucket, self.settings.prefix + key, ExtraArgs=extra, Config=self._transfer
            )

        self.ask(f"{key}: cannot be put", upload)
        stored = self.sizes(key).get(key)
        if stored != size:
            raise StoreError(f"{self}: {key}: {size} bytes were put, {stored} are there; the store loses data")

    def get(self, key: str, target: BinaryIO) -> None:
        def download() -> None:
            self.client.download_fileobj(
                self.settings.bucket, self.settings.prefix + key, target, Config=self._transfer
            )

        self.ask(f"{key}: cannot be got", download)

    def is_locked(self, key: str) -> bool:
        if not self.settings.lock_days:
            return False
        where = {"Bucket": self.settings.bucket, "Key": self.settings.prefix + key}
        found = self.ask(f"{key}: cannot be looked at", lambda: self.client.head_object(**where))
        until = found.get("ObjectLockRetainUntilDate")
        return found.get("ObjectLockMode") == "COMPLIANCE" and until is not None and until > now()

    def discard_unfinished(self, engines: tuple[str, ...]) -> None:
        start = len(self.settings.prefix)
        where = {"Bucket": self.settings.bucket, "Prefix": self.settings.prefix}

        def abort() -> None:
            for page in self.client.get_paginator("list_multipart_uploads").paginate(**where):
                for upload in page.get("Uploads", ()):
                    if belongs_to(upload["Key"][start:], engines):
                        self.client.abort_multipart_upload(
                            Bucket=self.settings.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )

        self.ask("unfinished uploads cannot be aborted", abort, unless=NO_UPLOADS)

    def lock(self, key: str) -> dict[str, Any]:
        """Return the arguments that lock what is put now as `key`, nothing for a store without locks."""
        if not self.settings.lock_days:
            return {}
        days = self.settings.lock_days + (self.chain_days if key.startswith("postgresql/") else 0)
        return locked_for(days)

    def ask(self, what: str, request: Callable[[], T], *, unless: tuple[str, ...] = ()) -> T:
        """Return what `request` returns; raises StoreError that begins with `what` for every failure of the store.

        An error code of the store in `unless` is not one: then the answer is None.
        """
        try:
            return request()
        except ClientError as error:
            found = error.response.get("Error", {})
            if found.get("Code") in unless:
                return None  # type: ignore[return-value]
            reason = f"{found.get('Code')}: {found.get('Message') or 'no reason given'}"
        except (BotoCoreError, Boto3Error, HTTPError, OSError) as error:
            reason = str(error)
        reason = " ".join(reason.split()).removesuffix(".")
        raise StoreError(f"{self}: {what}: {reason}; the other copies are untouched") from None

    def __str__(self) -> str:
        return f"store {self.name} ({self.settings.endpoint}/{self.settings.bucket})"


def locked_for(days: int) -> dict[str, Any]:
    """Return the arguments of a put that nobody can delete for so many days."""
    return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": now() + timedelta(days=days)}


def _configuration(settings: S3StoreSettings) -> Config:
    checksums = "when_supported" if settings.checksums else "when_required"
    return Config(
        connect_timeout=settings.connect_seconds,
        read_timeout=settings.read_seconds,
        # Waits between attempts grow and are random (boto3 guide, "Standard retry mode").
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        s3={"addressing_style": settings.addressing},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )


def read_secret_key(settings: S3StoreSettings) -> str:
    """Return the secret half of the store's key.

    Raises UsageError, never repeating it, when its file is missing, empty or open to others than its owner and group.
    """
    path = settings.secret_key_file
    try:
        mode = open_mode(path)
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(
            f"store {settings.name}: {path}: the key cannot be read: {reason}; run playbooks/site.yml"
        ) from None
    if mode:
        raise UsageError(
            f"store {settings.name}: {path} has mode {mode}, so others can read or change the key: make a new key, "
            "put it into the vault and run playbooks/site.yml"
        )
    if not secret or len(secret.split()) != 1:
        raise UsageError(f"store {settings.name}: {path} does not hold one secret key; run playbooks/site.yml")
    return secret
