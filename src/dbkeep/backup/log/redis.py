"""Seals what an instance of Redis appended to its append-only file since the newest slice.

It reads files, so it also seals what a server that is dead left behind. A slice ends wherever the file ends just then,
also within a command: the slices one after the other are the file again, and a restore cuts that.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dbkeep.backup.clock import place
from dbkeep.backup.log.append_only_file import Held, Position, forget, hold, settled
from dbkeep.backup.log.slices import AFTER, Slice, end_after, log_folder, started_after, write_slice
from dbkeep.backup.manifest import StoredFile
from dbkeep.backup.sealed_file import BLOCK, seal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect
from dbkeep.settings import RedisInstance

ENGINE = "redis"
TAIL = 4096
# With `appendfsync everysec` a write waits for a running fsync, for two seconds at most (flushAppendOnlyFile).
POSTPONED = timedelta(seconds=3)


def cut(host: BackupHost, newest: Slice | None) -> list[Slice]:
    """Seal what was appended since `newest`, or all that there is of the append-only file, as one slice.

    Where that is not continuous with `newest` it begins a chain and its details say in `lost` why. Raises DbkeepError
    when the instance writes no append-only file, or cannot.
    """
    backup, settings = host.with_redis()
    with settled(backup.data_directory):
        complete = _written_until(backup.instance, settings.instances[backup.instance], backup.data_directory)
        held = hold(backup.data_directory)
        lost = _lost(held, newest) if newest else ""
        if lost:
            held = hold(backup.data_directory)
        sizes = {sequence: path.stat().st_size for sequence, path in held.files.items()}
    continued = newest if newest and not lost else None
    start = Position.parse(continued.last) if continued else Position(held.incarnation, held.oldest, 0)
    last = Position(held.incarnation, held.last, sizes[held.last])
    ended_at, end = end_after(newest, complete)
    pieces, files = _seal(host, held, start, sizes, place(ended_at, end.get(AFTER, "")))
    details = {"instance": backup.instance, "pieces": pieces, "tail": _tail(held.files[last.sequence], last.offset)}
    details |= end | started_after(continued.after if continued else end.get(AFTER, ""))
    found = Slice(
        engine=ENGINE,
        host=socket.gethostname(),
        first=str(start),
        last=str(last),
        started_at=continued.ended_at if continued else min(ended_at, held.since(start.sequence)),
        ended_at=ended_at,
        begins_chain=continued is None,
        files=files,
        recipients=host.settings.recipients if files else (),
        details=details | ({"lost": lost} if lost else {}),
    )
    found = write_slice(host.settings.repository, found, host.settings.signing_key_file)
    held.release(before=last.sequence)
    return [found]


def _written_until(name: str, instance: RedisInstance, data_directory: Path) -> datetime:
    """Return a moment up to which every acknowledged write is in the files."""
    asked = first = datetime.now(UTC)
    if _is_down(instance):
        return first
    with connect(name, instance) as client:
        while True:
            state: dict[str, Any] = client.info("persistence")
            if not state["aof_enabled"]:
                forget(data_directory)
                raise DbkeepError(f"redis {name}: appendonly is off: nothing can be sealed; run `dbkeep apply`")
            if state["aof_last_write_status"] != "ok":
                raise DbkeepError(f"redis {name}: cannot write its append-only file; look at the disk of the host")
            if not state["aof_buffer_length"]:
                return asked
            if asked - first > POSTPONED:
                return first
            time.sleep(0.01)
            asked = datetime.now(UTC)


def _is_down(instance: RedisInstance) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(instance.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        except OSError:
            return False
    return False


def _lost(held: Held, newest: Slice) -> str:
    """Return why what is kept does not go on where `newest` ended, or nothing when it does."""
    position = Position.parse(newest.last)
    if position.incarnation != held.incarnation:
        return f"redis: after {newest.last} the data directory is another one, or its appendonly was off"
    expected = range(position.sequence, max(position.sequence, held.last) + 1)
    if missing := [str(sequence) for sequence in expected if sequence not in held.files]:
        return f"redis: its append-only file {missing[0]} was rewritten and removed before it was sealed"
    path = held.files[position.sequence]
    # A server that lost its newest bytes with the power goes on from what is left.
    if path.stat().st_size < position.offset or _tail(path, position.offset) != newest.details["tail"]:
        forget(held.folder.parent)
        return f"redis: what was appended before {newest.last} is not there any more; the power failed, or the disk"
    return ""


def _seal(
    host: BackupHost, held: Held, start: Position, sizes: dict[int, int], name: str
) -> tuple[list[dict[str, Any]], tuple[StoredFile, ...]]:
    folder = host.settings.repository / log_folder(ENGINE)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pieces, files = [], []
    for sequence in range(start.sequence, held.last + 1):
        begin, end = start.offset if sequence == start.sequence else 0, sizes[sequence]
        if end == begin:
            continue
        with held.files[sequence].open("rb", buffering=0) as stream:
            # What is sealed must not be lost with the power here.
            os.fsync(stream.fileno())
            path = folder / f"{name}.{sequence}.aof.zst.age"
            files.append(seal(_range(stream.fileno(), begin, end), path, host.settings.recipients))
        pieces.append({"file": path.name, "sequence": sequence, "from": begin, "to": end})
    return pieces, tuple(files)


def _range(descriptor: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        block = os.pread(descriptor, min(BLOCK, end - begin), begin)
        if not block:
            raise DbkeepError(f"the append-only file became shorter than {end} bytes while it was sealed; try again")
        begin += len(block)
        yield block


def _tail(path: Path, offset: int) -> str:
    """Return a digest of the bytes before `offset`, by which a file that was cut and went on is told apart."""
    with path.open("rb", buffering=0) as stream:
        begin = max(0, offset - TAIL)
        return hashlib.sha256(os.pread(stream.fileno(), offset - begin, begin)).hexdigest()
