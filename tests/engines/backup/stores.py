"""Hosts with stores: the site of conftest.py with settings of stores beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from dbkeep.backup.settings import BackupHost, DirectoryStoreSettings, S3StoreSettings
from dbkeep.sandbox.s3 import S3Server

if TYPE_CHECKING:
    from .conftest import Site

BUCKET = "copies"
Settings = DirectoryStoreSettings | S3StoreSettings


def directory(path: Path, name: str = "nas") -> DirectoryStoreSettings:
    path.mkdir(exist_ok=True)
    return DirectoryStoreSettings(type="directory", name=name, path=path)


def bucket(server: S3Server, folder: Path, **rest: Any) -> S3StoreSettings:
    """A store that gives up quickly and uploads in small parts."""
    key_file = folder / f"{rest.get('name', 'offsite')}.key"
    key_file.write_text(rest.pop("key", server.key))
    key_file.chmod(0o600)
    defaults: dict[str, Any] = {
        "name": "offsite",
        "bucket": BUCKET,
        "prefix": "production/",
        "access_key_id": server.key_id,
        "ca_file": server.ca_file,
        "attempts": 2,
        "part_mebibytes": 5,
    }
    return S3StoreSettings(type="s3", endpoint=server.endpoint, secret_key_file=key_file, **{**defaults, **rest})


def client(server: S3Server, service: str = "s3", *, key_id: str | None = None, key: str | None = None) -> Any:
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        verify=str(server.ca_file),
        aws_access_key_id=key_id or server.key_id,
        aws_secret_access_key=key or server.key,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def with_stores(site: Site, stores: Sequence[Settings], **changed: Any) -> BackupHost:
    settings = site.host.settings.model_copy(update={"stores": tuple(stores), **changed})
    return replace(site.host, settings=settings)
