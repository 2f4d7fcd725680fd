"""MongoDB's log: slices of the oplog as the server's own raw BSON, up to a time that a majority has.

A position is a cluster time, "SECONDS.INCREMENT". What a majority has is never rolled back (MongoDB manual, "Rollbacks
During Replica Set Failover"), so no slice holds what the server later takes back. `bsondump` reads what is inside.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import cast

from bson import CodecOptions, Timestamp, decode
from pymongo.errors import OperationFailure

from dbkeep.backup.clock import place
from dbkeep.backup.log.slices import AFTER, Slice, end_after, log_folder, remove_unfinished, started_after, write_slice
from dbkeep.backup.raw_reply import RAW
from dbkeep.backup.raw_reply import cut as cut_reply
from dbkeep.backup.sealed_file import publish, seal
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import Client, Document, connect

ENGINE = "mongodb"
SUFFIX = ".oplog.zst.age"
SLICE_BYTES = 128 << 20
BATCH_ENTRIES = 10_000
MAJORITY_MS = 10_000
# A server that just started takes notes before it says at what time.
START_SECONDS = 10
# A daily set with two hours to be late: the first slice ever reaches back to the fence of a set taken before it.
FIRST_REACH_SECONDS = 26 * 3600
CAPPED_POSITION_LOST = 136
AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)


class LostError(DbkeepError):
    """The oplog no longer has the entry at which the next slice would begin."""


def order(position: str) -> tuple[int, int]:
    """Return a position so that positions compare as the server's times do."""
    seconds, _, increment = position.partition(".")
    return int(seconds), int(increment)


def position_of(time: Timestamp) -> str:
    return f"{time.time}.{time.inc}"


def timestamp(position: str) -> Timestamp:
    return Timestamp(*order(position))


def note(client: Client, data: Document) -> Timestamp:
    """Write `data` into the oplog and return its time once a majority has it.

    Raises OperationFailure, DbkeepError when the server is just starting and has no time after START_SECONDS.
    """
    command = {"appendOplogNote": 1, "data": data, "writeConcern": {"w": "majority", "wtimeout": MAJORITY_MS}}
    deadline = monotonic() + START_SECONDS
    while (time := client.admin.command(command).get("operationTime")) is None:
        if monotonic() >= deadline:
            raise DbkeepError("mongodb: the replica set is only just starting and says no operation time; try again")
        sleep(0.1)
    return cast(Timestamp, time)


@dataclass
class Tail:
    """The entries of the oplog after `start` up to `end`, or fewer when they are many; filled while they are read."""

    client: Client
    start: Timestamp
    end: Timestamp
    size: int = 0
    entries: int = 0
    first: Document = field(default_factory=dict)
    last: Document = field(default_factory=dict)

    def chunks(self) -> Iterator[bytes]:
        """Yield the entries as raw BSON. Raises LostError when the oplog does not reach back to `start`."""
        command: Document = {
            "find": "oplog.rs",
            "filter": {"ts": {"$gte": self.start, "$lte": self.end}},
            "batchSize": BATCH_ENTRIES,
        }
        with self.client.start_session(causal_consistency=False) as session:
            while True:
                try:
                    reply = self.client.local.command(command, session=session, codec_options=RAW)
                except OperationFailure as error:
                    if error.code == CAPPED_POSITION_LOST:
                        raise self._lost() from None
                    raise
                cursor_id, documents, _ = cut_reply(bytes(reply["cursor"].raw))
                yield self._take(documents)
                if not cursor_id:
                    return
                if self.size >= SLICE_BYTES:
                    self.client.local.command({"killCursors": "oplog.rs", "cursors": [cursor_id]}, session=session)
                    return
                command = {"getMore": cursor_id, "collection": "oplog.rs", "batchSize": BATCH_ENTRIES}

    def _take(self, documents: bytes) -> bytes:
        starts = _starts(documents)
        if not self.first:
            self.first = self.last = _entry(documents, 0) if starts else {}
            if self.first.get("ts") != self.start:
                raise self._lost()
            # `start` itself is in the slice before.
            after = starts[1] if len(starts) > 1 else len(documents)
            documents, starts = documents[after:], [start - after for start in starts[1:]]
        if starts:
            self.last = _entry(documents, starts[-1])
            self.entries += len(starts)
            self.size += len(documents)
        return documents

    def _lost(self) -> LostError:
        return LostError(
            f"mongodb: the oplog has no longer {position_of(self.start)}, where the newest slice ends: it rolled over "
            "before it was archived, or the data was restored; where it grows faster than it is archived, give mongod "
            "a larger one (replSetResizeOplog)"
        )


def _starts(documents: bytes) -> list[int]:
    starts, position = [], 0
    while position < len(documents):
        starts.append(position)
        position += struct.unpack_from("<i", documents, position)[0]
    return starts


def _entry(documents: bytes, start: int) -> Document:
    (length,) = struct.unpack_from("<i", documents, start)
    entry = decode(documents[start : start + length], AWARE)
    return {"ts": entry["ts"], "wall": entry["wall"]}


def cut(host: BackupHost, newest: Slice | None) -> list[Slice]:
    """Seal what the oplog has since `newest` and return the new slices, which are on disk.

    Without `newest` the first one reaches back a day, as far as the oplog does, so that it meets the set before it.
    Where the oplog does not reach back to `newest`, the slice begins a chain and its details say in `lost` why.

    Raises DbkeepError when the server does not answer or refuses, or the disk is full; a rerun goes on where it ended.
    """
    (host.settings.repository / log_folder(ENGINE)).mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_unfinished(host.settings.repository, ENGINE)
    with connect(host.with_mongodb()[1]) as client:
        tail = Tail(client, timestamp(newest.last) if newest else _first(client), _here(client))
        made: list[Slice] = []
        try:
            while not made or tail.start < tail.end:
                made.append(_seal(host, tail, made[-1] if made else newest))
                tail = Tail(client, timestamp(made[-1].last), tail.end)
        except LostError as error:
            made.append(_seal(host, Tail(client, tail.end, _here(client)), made[-1] if made else newest, str(error)))
        return made


def _here(client: Client) -> Timestamp:
    return note(client, {"dbkeep": "slice"})


def _first(client: Client) -> Timestamp:
    since = Timestamp(max(0, int(datetime.now(UTC).timestamp()) - FIRST_REACH_SECONDS), 0)
    found = client.local["oplog.rs"].find_one({"ts": {"$gte": since}}, {"ts": 1}, sort=[("$natural", 1)])
    if found is None:
        raise DbkeepError("mongodb: the oplog is empty; look at the state of the replica set")
    time: Timestamp = found["ts"]
    return time


def _seal(host: BackupHost, tail: Tail, newest: Slice | None, lost: str = "") -> Slice:
    folder = host.settings.repository / log_folder(ENGINE)
    cutting = folder / f"cutting{SUFFIX}"
    stored = seal(tail.chunks(), cutting, host.settings.recipients)
    ended_at, end = end_after(newest, tail.last["wall"])
    path = folder / f"{place(ended_at, end.get(AFTER, ''))}{SUFFIX}"
    publish(cutting, path)
    continued = newest if newest and not lost else None
    start = started_after(continued.after if continued else end.get(AFTER, ""))
    made = Slice(
        engine=ENGINE,
        host=socket.gethostname(),
        first=position_of(tail.start),
        last=position_of(tail.last["ts"]),
        started_at=continued.ended_at if continued else tail.first["wall"],
        ended_at=ended_at,
        begins_chain=continued is None,
        files=(stored.model_copy(update={"name": path.name}),),
        recipients=host.settings.recipients,
        details={"entries": tail.entries} | end | start | ({"lost": lost} if lost else {}),
    )
    return write_slice(host.settings.repository, made, host.settings.signing_key_file)
