"""Lays out an append-only file that ends at a moment: the dump of a set is its base, the slices after it the commands.

The server's own redis-check-aof cuts it at a time, and says of a cut behind a point's marker that it is one between two
commands: bytes like a marker's may also stand within the value of somebody's key.
"""

from __future__ import annotations

import mmap
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dbkeep.backup.log.append_only_file import Position, write_manifest
from dbkeep.backup.log.redis import ENGINE
from dbkeep.backup.log.slices import Slice, chain_after, log_folder, read_slices
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.redis import MARKER, check_tool
from dbkeep.backup.sealed_file import BLOCK, inflate, private, unseal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.settings import RedisSettings

# What redis-check-aof says of a file that ends within a command or a transaction, as a crash leaves it.
ENDS_EARLY = ("Expected to read", "Reached EOF")


def lay_out(host: BackupHost, part: Part, target: RecoveryPoint, identity: str, *, dump: Path, data: Path) -> None:
    """Make `data` the data directory of an instance whose append-only file ends at `target`; `dump` becomes its base.

    Raises DbkeepError when the slices do not reach from the set to the target without a gap, one of them is damaged, or
    the point was never set.
    """
    settings = host.with_redis()[1]
    begin = Position.parse(part.recovery_point.name)
    slices = slices_between(host, part, target)
    names = part.details["configuration"]
    folder = data / names["appenddirname"]
    folder.mkdir(mode=0o700, parents=True)
    base, commands = write_manifest(folder, names["appendfilename"])
    dump.rename(base)
    last = 0
    with private(commands) as out:
        for found in slices:
            last = out.tell()
            for block in _blocks(host, found, begin, identity, dump.with_name("slice.aof.zst")):
                out.write(block)
    if not target.name and target.after and not _has_time(commands, last):
        # Redis writes no time until its clock has passed the last one: nothing says what of the slice was before.
        os.truncate(commands, last)
    if target.name:
        _cut_behind(commands, target.name, settings)
    else:
        _cut_before(commands, int(target.at.timestamp()), settings)


def slices_between(host: BackupHost, part: Part, target: RecoveryPoint) -> list[Slice]:
    """Return the slices that carry a set on to `target`; raises DbkeepError naming the gap between them."""
    if target.place < part.recovery_point.place:
        moment = part.recovery_point.at.isoformat()
        raise DbkeepError(
            f"redis: set {part.set_id} is of {moment}, after {target.at.isoformat()}; take an earlier set"
        )
    slices = read_slices(host.settings.repository, ENGINE, host.settings.signing_keys)
    # A later incarnation begins a chain, so that the order of their names need not mean anything.
    ranks = {Position.parse(found.first).incarnation: rank for rank, found in enumerate(slices)}

    def order(text: str) -> tuple[int, int, int]:
        position = Position.parse(text)
        return ranks.get(position.incarnation, -1), position.sequence, position.offset

    return chain_after(slices, part.recovery_point.name, target, order)


def _blocks(host: BackupHost, found: Slice, begin: Position, identity: str, packed: Path) -> Iterator[bytes]:
    """Yield the bytes of a slice that were appended from `begin` on."""
    folder = host.settings.repository / log_folder(ENGINE)
    stored = {file.name: file for file in found.files}
    for piece in found.details["pieces"]:
        skip = begin.offset - piece["from"] if piece["sequence"] == begin.sequence else 0
        if piece["sequence"] < begin.sequence or piece["to"] - piece["from"] <= skip:
            continue
        unseal(folder, stored[piece["file"]], packed, identity)
        with inflate(packed) as stream:
            stream.read(max(0, skip))
            while block := stream.read(BLOCK):
                yield block
        packed.unlink()


def _has_time(path: Path, begin: int) -> bool:
    """Say whether the server noted a time behind `begin`."""
    if path.stat().st_size <= begin:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"#TS:", begin) >= 0


def _cut_behind(path: Path, name: str, settings: RedisSettings) -> None:
    for end in _ends_of_marker(path, name):
        os.truncate(path, end)
        if not _check(path, settings):
            return
    raise DbkeepError(f"redis: the point {name} is not in the slices after the set; choose another point, or a time")


def _ends_of_marker(path: Path, name: str) -> list[int]:
    """Return where the command of a marker may end, the last one first."""
    key, value = MARKER.encode(), name.encode()
    words = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
    pattern = rb"\*5\r\n\$3\r\nSET\r\n" + re.escape(words) + rb"\$4\r\nPXAT\r\n\$13\r\n\d{13}\r\n"
    if not path.stat().st_size:
        return []
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [found.end() for found in re.finditer(pattern, content)][::-1]


def _cut_before(path: Path, second: int, settings: RedisSettings) -> None:
    """Cut where that second begins: the tool keeps the commands of the second that it is given."""
    output = _check(path, settings, "--truncate-to-timestamp", str(second - 1))
    ended = re.search(r"ok_up_to=(\d+)", output)
    if "has nothing before timestamp" in output:
        os.truncate(path, 0)
    elif ended and any(words in output for words in ENDS_EARLY):
        # The second did not begin before the end.
        os.truncate(path, int(ended[1]))
    elif output:
        raise DbkeepError(f"redis: the slices are no append-only file: {output.splitlines()[-1]}; choose another set")


def _check(path: Path, settings: RedisSettings, *options: str) -> str:
    """Return what redis-check-aof has to say against the file; nothing when it is good."""
    done = subprocess.run(
        [*check_tool(settings, "aof"), *options, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return (done.stdout.strip() or f"it ended with {done.returncode}") if done.returncode else ""
