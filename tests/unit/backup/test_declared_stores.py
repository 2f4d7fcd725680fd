"""backup_stores of an inventory: what it turns into, and the one line for every mistake in it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dbkeep.backup.manifest import StoredFile
from dbkeep.backup.settings import BackupSettings
from dbkeep.backup.stores.declared import declared_stores, host_files
from dbkeep.backup.stores.store import belongs_to
from dbkeep.errors import UsageError

S3: dict[str, Any] = {
    "name": "offsite",
    "type": "s3",
    "endpoint": "https://s3.example.org",
    "bucket": "backups",
    "access_key_id": "AKIA1",
}
NAS: dict[str, Any] = {"name": "nas", "type": "directory", "path": "/mnt/nas"}


def test_keys_and_authorities_become_files_and_never_settings() -> None:
    entries = [{**S3, "ca_certificate": "-----BEGIN CERTIFICATE-----\nx\n"}, NAS]
    stores = declared_stores(entries)
    assert [store.name for store in stores] == ["offsite", "nas"]
    assert "BEGIN" not in str(stores)
    assert host_files(entries, {"offsite": "k" * 40}) == [
        {"path": "/etc/dbkeep/backup/offsite.key", "content": "k" * 40 + "\n", "mode": "0600", "secret": True},
        {"path": "/etc/dbkeep/backup/offsite.crt", "content": "-----BEGIN CERTIFICATE-----\nx\n"},
    ]
    text = BackupSettings(recipients=("age1x",), signing_keys=("x",), stores=tuple(stores)).model_dump_json()
    assert BackupSettings.model_validate_json(text).stores == tuple(stores)


@pytest.mark.parametrize(
    ("entry", "refusal"),
    [
        ({**S3, "endpoint": "http://s3.example.org"}, r"backup_stores.0 \(offsite\): endpoint: .*https"),
        ({**S3, "bucket": "UPPER"}, "bucket: "),
        ({**S3, "prefix": "no-slash"}, "prefix: "),
        ({**S3, "prefix": "../up/"}, "prefix: "),
        ({**S3, "lock_days": -1}, "lock_days: "),
        ({**S3, "secret": "x"}, "secret: Extra inputs are not permitted"),
        ({**NAS, "name": "Not A Name"}, "name: "),
        ({"name": "nas", "type": "directory"}, "path: Field required"),
        ({"name": "nas", "type": "tape"}, "type: "),
        ({"type": "directory", "path": "/x"}, "without a name.*name: Field required"),
        ({**NAS, "name": "local"}, "the name 'local' is taken"),
    ],
)
def test_a_mistake_is_one_line_that_names_store_and_key(entry: dict[str, Any], refusal: str) -> None:
    with pytest.raises(UsageError, match=refusal) as refused:
        declared_stores([entry])
    assert "\n" not in str(refused.value)


def test_two_stores_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="the name 'nas' is taken"):
        declared_stores([NAS, NAS])


def test_a_key_that_is_not_in_the_vault_is_named() -> None:
    with pytest.raises(UsageError, match=r"backup\.store_keys\.offsite is missing: .* AKIA1 into the vault"):
        host_files([S3], {})


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "sets/../../outside", ""])
def test_a_manifest_cannot_name_a_file_outside_the_repository(name: str) -> None:
    with pytest.raises(ValidationError, match="is no file below the repository"):
        StoredFile(name=name, size=1, sha256="x", plain_size=1)


def test_a_host_knows_the_files_of_its_engines() -> None:
    assert belongs_to("sets/20261122T020000Z/redis/dump.rdb.zst.age", ("redis",))
    assert belongs_to("postgresql/backup/chat/x", ("postgresql", "redis"))
    assert not belongs_to("sets/20261122T020000Z/redis/dump.rdb.zst.age", ("postgresql",))
    assert not belongs_to("lock-canary", ("postgresql", "mongodb", "redis"))
