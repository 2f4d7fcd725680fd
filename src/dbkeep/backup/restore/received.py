"""What another host of the environment sent of its repository: what brings engines to a target, and nothing else.

It goes from host to host as a tar stream through the controller, sealed and signed as it lies there, into a repository
of its own below the live one, which it never touches. Who reads it checks it like any copy.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from dbkeep.backup.lock import hold
from dbkeep.backup.manifest import FILE_NAME, SIGNATURE_NAME, SUMS_NAME, StoredFile, read_sets
from dbkeep.backup.points import FOLDER as POINTS
from dbkeep.backup.restore.fetch import with_repository
from dbkeep.backup.restore.target import Choice, Target, choose
from dbkeep.backup.run import LOCK
from dbkeep.backup.sealed_file import private
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.errors import DbkeepError, UsageError

FOLDER = "received"


def send(host: BackupHost, target: Target, engines: Sequence[str], out: BinaryIO, *, records_only: bool) -> None:
    """Write as tar what of this host's repository brings engines to the target; with `records_only` what says so.

    Raises what `choose` raises, BusyError when retention removes a set right now, DbkeepError for a file that is gone.
    """
    choice = choose(host, target, host.chosen(tuple(engines)))
    with ExitStack() as kept, tarfile.open(fileobj=out, mode="w|") as archive:
        for set_id in {one.part.set_id for one in choice.engines.values()}:
            kept.enter_context(hold(host.sets / set_id / LOCK, "send to another host", shared=True))
        try:
            # Records last: what they speak of is there then.
            for key in [*([] if records_only else _contents(choice)), *_records(host, target, choice)]:
                archive.add(host.settings.repository / key, arcname=key, recursive=False)
        except OSError as error:
            raise DbkeepError(f"{error.filename}: cannot be sent: {error.strerror}; take another set") from None


def _contents(choice: Choice) -> list[str]:
    found = [stored.name for one in choice.engines.values() for stored in one.part.stored_files()]
    slices = [found for one in choice.engines.values() for found in (*one.margin, *one.slices)]
    return list(dict.fromkeys([*found, *(stored.name for one in slices for stored in one.stored_files())]))


def _records(host: BackupHost, target: Target, choice: Choice) -> Iterator[str]:
    if target.point is not None:
        yield from (f"{POINTS}/{path.name}" for path in (host.settings.repository / POINTS).glob(f"{target.point}.*"))
    for one in choice.engines.values():
        yield from (found.key for found in (*one.margin, *one.slices))
        yield from (f"{one.part.folder}/{name}" for name in (SUMS_NAME, SIGNATURE_NAME, FILE_NAME))


def receive(host: BackupHost, stream: BinaryIO, *, more: bool = False) -> None:
    """Put what a host sent into the folder for it, in place of what was there, or beside it when it is `more`.

    Raises DbkeepError when the stream is none of those or ends early, BusyError while a restore reads the folder.
    """
    root = _root(host)
    host.settings.repository.mkdir(mode=0o711, parents=True, exist_ok=True)
    with hold(_lock(host), "receive from another host"):
        if not more:
            shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o711, exist_ok=True)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    _write(archive, member, root)
        except (tarfile.TarError, EOFError):
            raise DbkeepError(f"{root}: what the other host sent ends early; try again") from None
        except OSError as error:
            raise DbkeepError(f"{root}: cannot be written: {error.strerror}; look at the space left there") from None
        if host.settings.postgresql:
            from dbkeep.backup.pgbackrest_files import put_own  # noqa: PLC0415 - hosts without PostgreSQL need it never

            for parts in read_sets(root / "sets", host.settings.signing_keys):
                if "postgresql" in parts:
                    put_own(root, parts["postgresql"], host.settings.postgresql.os_user)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    """Write one file of the stream; raises DbkeepError for anything but a file below the folder."""
    try:
        # A host of the environment that was broken into must not write elsewhere on this one.
        name = StoredFile(name=member.name, size=member.size, sha256="", plain_size=0).name
    except ValueError:
        name = ""
    content = archive.extractfile(member) if name and member.isreg() else None
    if content is None:
        raise DbkeepError(f"{member.name!r} is no file of a repository: the sending host is not what it should be")
    path = root / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with private(path) as out:
        shutil.copyfileobj(content, out)


@contextmanager
def source_of(host: BackupHost, source: str, store: str) -> Iterator[BackupHost]:
    """Yield this host with the repository that a restore of host `source`'s data reads; without `source` its own.

    What that one sent is removed at the end. Raises UsageError when this host writes into stores itself: what it logs
    after the restore would go among what the source logs. Raises DbkeepError when nothing was received.
    """
    if source and host.settings.stores:
        names = ", ".join(store.name for store in host.settings.stores)
        raise UsageError(
            f"this host writes into {names}, where the log of {source} is: put it into the group standby and run "
            "playbooks/site.yml, so that it only reads there"
        )
    if not source or store != LOCAL:
        yield host
        return
    root = _root(host)
    with hold(_lock(host), "restore of what another host sent"):
        if not root.is_dir():
            raise DbkeepError(f"{root}: no other host sent anything; `dbkeep restore --target HOST` has it sent")
        try:
            yield with_repository(host, root)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _root(host: BackupHost) -> Path:
    return host.settings.repository / FOLDER


def _lock(host: BackupHost) -> Path:
    return host.settings.repository / f".{FOLDER}.lock"
