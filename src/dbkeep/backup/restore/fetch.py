"""Brings a set from a store, so that restore and drill use it as if it had always been here: a lost host has no other.

The fetched set lies in a repository of its own below the live one, which it never touches.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.log.slices import Slice, keep_slice
from dbkeep.backup.manifest import FILE_NAME, StoredFile, parse_part, part_folder
from dbkeep.backup.restore.target import Chosen
from dbkeep.backup.sealed_file import private
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.stores.copies import fetch_file, read_written_copy
from dbkeep.backup.stores.store import Store, open_store
from dbkeep.errors import DbkeepError

FOLDER = "fetched"


@contextmanager
def fetched(host: BackupHost, name: str, chosen: Mapping[str, Chosen], progress: Progress) -> Iterator[BackupHost]:
    """Yield this host with what was chosen of store `name` as its repository; all of it is removed at the end.

    For the store `local` it is the host as it is. Raises DbkeepError when a file is not as its manifest says,
    BusyError while another set is being fetched.
    """
    if name == LOCAL:
        yield host
        return
    store = open_store(host, name)
    root = host.settings.repository / FOLDER
    host.settings.repository.mkdir(mode=0o711, parents=True, exist_ok=True)
    with hold(root.with_name(f".{FOLDER}.lock"), f"fetch from store {name}"):
        shutil.rmtree(root, ignore_errors=True)
        try:
            root.mkdir(mode=0o711)
            for engine, one in chosen.items():
                progress(f"{engine}: fetching set {one.part.set_id} from store {name}")
                fetch_slices(store, (*one.margin, *one.slices), root)
                fetch(host, store, one.part.set_id, engine, root)
            yield with_repository(host, root)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def with_repository(host: BackupHost, root: Path) -> BackupHost:
    """Return the host with another repository in place of the live one: what restores and drills read."""
    changed: dict[str, object] = {"repository": root}
    if host.settings.postgresql:
        changed["postgresql"] = host.settings.postgresql.model_copy(update={"repository": root / "postgresql"})
    return replace(host, settings=host.settings.model_copy(update=changed), live=host.live_repository)


def fetch(host: BackupHost, store: Store, set_id: str, engine: str, root: Path) -> None:
    """Bring one part into the repository `root`, its signature checked and each file compared with the manifest.

    Raises DbkeepError, before any of its files is fetched when nobody who may signed it.
    """
    written, folder = read_written_copy(store, set_id, engine), part_folder(set_id, engine)
    where = f"store {store.name}: {folder}/{FILE_NAME}"
    part = parse_part(written, folder, where, host.settings.signing_keys)
    for stored in part.stored_files():
        _fetch(store, stored, root / stored.name)
    if part.engine == "postgresql":
        from dbkeep.backup.pgbackrest_files import put_own  # noqa: PLC0415 - hosts without PostgreSQL need it never

        put_own(root, part, host.with_postgresql()[0].os_user)
    written.write(root / part.folder)


def fetch_slices(store: Store, slices: Iterable[Slice], root: Path) -> None:
    """Bring slices into the repository `root`, each file checked against its record. Raises DbkeepError."""
    for found in slices:
        for stored in found.stored_files():
            _fetch(store, stored, root / stored.name)
        keep_slice(root, found)


def _fetch(store: Store, stored: StoredFile, path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with private(path) as out:
            fetch_file(store, stored, out)
    except OSError as error:
        raise DbkeepError(f"{path}: cannot be written: {error.strerror}; look at the space left on the disk") from None
