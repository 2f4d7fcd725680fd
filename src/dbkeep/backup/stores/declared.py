"""backup_stores of an inventory: checked on the controller, and turned into what the hosts get of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dbkeep.backup.settings import ALL, LOCAL, S3StoreSettings, StoreSettings
from dbkeep.errors import UsageError

FILES = Path("/etc/dbkeep/backup")
_STORE: TypeAdapter[Any] = TypeAdapter(StoreSettings)


def declared_stores(entries: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the settings of the stores in `backup_stores`.

    An S3 store's own authority is in `ca_certificate`; the secret half of its key is in the vault. On the host both
    are files. Raises UsageError that names the store and the key that is wrong.
    """
    stores = []
    for number, entry in enumerate(entries):
        values = dict(entry)
        where = f"backup_stores.{number} ({values.get('name', 'without a name')})"
        if values.get("type") == "s3":
            values["secret_key_file"] = str(FILES / f"{values.get('name')}.key")
            if values.pop("ca_certificate", ""):
                values["ca_file"] = str(FILES / f"{values.get('name')}.crt")
        try:
            stores.append(_STORE.validate_python(values))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"] if part != values.get("type"))
            raise UsageError(f"{where}: {key or 'type'}: {first['msg']}; change it in the inventory") from None
    names = [store.name for store in stores]
    for name in names:
        if names.count(name) > 1 or name in (LOCAL, ALL):
            raise UsageError(f"backup_stores: the name {name!r} is taken; give every store one of its own")
    return stores


def host_files(entries: Sequence[Mapping[str, Any]], keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the files of the stores on a host, as dbkeep_files takes them.

    `keys` are the vault's secret keys by store. Raises UsageError when one is missing.
    """
    files = []
    for entry, store in zip(entries, declared_stores(entries), strict=True):
        if not isinstance(store, S3StoreSettings):
            continue
        if not keys.get(store.name):
            raise UsageError(
                f"dbkeep_secrets.backup.store_keys.{store.name} is missing: put the secret half of the key "
                f"{store.access_key_id} into the vault (ansible-vault edit)"
            )
        secret = {"content": f"{keys[store.name]}\n", "mode": "0600", "secret": True}
        files.append({"path": str(store.secret_key_file), **secret})
        if store.ca_file:
            files.append({"path": str(store.ca_file), "content": str(entry["ca_certificate"]).strip() + "\n"})
    return files
