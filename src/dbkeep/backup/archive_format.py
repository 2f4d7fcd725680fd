"""The mongodump archive format 0.1: the vendor's mongorestore reads what is written here, and the other way round.

Layout (mongo-tools, common/archive/spec.md): magic number, header document, one metadata document per collection,
terminator; then segments of namespace header, documents, terminator; each namespace ends with a header that carries
EOF and the CRC-64/XZ of all its documents.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import bson
from bson import json_util
from bson.int64 import Int64
from fastcrc import crc64

from dbkeep.errors import DbkeepError

MAGIC = struct.pack("<I", 0x8199E26D)
TERMINATOR = struct.pack("<I", 0xFFFFFFFF)
VERSION = "0.1"
LARGEST_DOCUMENT = 16 * 1024 * 1024 + 16 * 1024  # the server's own limit (BSONObjMaxInternalSize)
BATCH_BYTES = 1 << 20

Namespace = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection or view of an archive: its options and indexes as the server lists them."""

    database: str
    name: str
    kind: str
    options: dict[str, Any]
    indexes: tuple[dict[str, Any], ...]
    uuid: str = ""
    size: int = 0

    @property
    def namespace(self) -> Namespace:
        return (self.database, self.name)

    def metadata(self) -> str:
        """Return options and indexes as canonical Extended JSON, as mongodump writes them."""
        value = {
            "options": self.options,
            "indexes": list(self.indexes),
            "uuid": self.uuid,
            "collectionName": self.name,
            "type": self.kind,
        }
        return json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)


def prelude(collections: list[Collection], *, server_version: str, tool_version: str) -> bytes:
    """Return everything before the documents."""
    header = {
        "concurrent_collections": 1,
        "version": VERSION,
        "server_version": server_version,
        "tool_version": tool_version,
    }
    parts = [MAGIC, bson.encode(header)]
    parts += [
        bson.encode({"db": c.database, "collection": c.name, "metadata": c.metadata(), "size": c.size, "type": c.kind})
        for c in collections
    ]
    return b"".join([*parts, TERMINATOR])


class NamespaceWriter:
    """Frames the documents of one collection: `start`, any number of `add`, `end`."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._crc = 0

    def _header(self, *, end: bool, crc: int) -> bytes:
        database, collection = self._namespace
        signed = crc - (1 << 64) if crc >> 63 else crc
        return bson.encode({"db": database, "collection": collection, "EOF": end, "CRC": Int64(signed)})

    def start(self) -> bytes:
        return self._header(end=False, crc=0)

    def add(self, documents: bytes) -> bytes:
        self._crc = crc64.xz(documents, self._crc)
        return documents

    def end(self) -> bytes:
        return TERMINATOR + self._header(end=True, crc=self._crc) + TERMINATOR


class Reader:
    """Reads an archive from a stream: the prelude at once, the documents by `batches`.

    Raises DbkeepError when the stream is not an archive, ends early, or a checksum differs.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        if self._read(4) != MAGIC:
            raise self._damaged("it does not start as a mongodump archive")
        self.header = bson.decode(self._required_document())
        if self.header.get("version") != VERSION:
            raise self._damaged(f"archive version {self.header.get('version')!r}, not {VERSION}")
        self.collections: list[Collection] = []
        while (document := self._document()) is not None:
            self.collections.append(_collection(bson.decode(document)))

    def batches(self) -> Iterator[tuple[Namespace, list[bytes]]]:
        """Yield the documents in order, each batch of one collection and at most a mebibyte or one document large."""
        checksums: dict[Namespace, int] = {}
        ended: set[Namespace] = set()
        while (start := self._read(4, end_allowed=True)) != b"":
            header = bson.decode(self._rest_of_document(start))
            namespace = (header["db"], header["collection"])
            if header["EOF"]:
                if self._document() is not None:
                    raise self._damaged(f"documents after the end of {'.'.join(namespace)}")
                if checksums.pop(namespace, 0) != header["CRC"] % (1 << 64):
                    raise self._damaged(f"the checksum of {'.'.join(namespace)} differs")
                ended.add(namespace)
                continue
            checksums.setdefault(namespace, 0)
            for batch in self._segment():
                checksums[namespace] = crc64.xz(b"".join(batch), checksums[namespace])
                yield namespace, batch
        missing = checksums.keys() | {c.namespace for c in self.collections if c.kind != "view"} - ended
        if missing:
            raise self._damaged(f"it ends before {'.'.join(min(missing))} does")

    def _segment(self) -> Iterator[list[bytes]]:
        batch: list[bytes] = []
        size = 0
        while (document := self._document()) is not None:
            # The largest document leaves no room for another one in the command that inserts it.
            if batch and size + len(document) > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(document)
            size += len(document)
        if batch:
            yield batch

    def _document(self) -> bytes | None:
        start = self._read(4)
        return None if start == TERMINATOR else self._rest_of_document(start)

    def _required_document(self) -> bytes:
        document = self._document()
        if document is None:
            raise self._damaged("a document is missing")
        return document

    def _rest_of_document(self, start: bytes) -> bytes:
        (length,) = struct.unpack("<I", start)
        if not 5 <= length <= LARGEST_DOCUMENT:
            raise self._damaged(f"a document of {length} bytes")
        return start + self._read(length - 4)

    def _read(self, size: int, *, end_allowed: bool = False) -> bytes:
        data = self._stream.read(size)
        while data and len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                break
            data += more
        if len(data) != size and not (end_allowed and not data):
            raise self._damaged("it ends in the middle")
        return data

    def _damaged(self, what: str) -> DbkeepError:
        return DbkeepError(f"{self._name}: not a complete mongodump archive: {what}; take another set")


def _collection(document: dict[str, Any]) -> Collection:
    metadata = json_util.loads(document["metadata"] or "{}")
    return Collection(
        database=document["db"],
        name=document["collection"],
        kind=document.get("type") or metadata.get("type") or "collection",
        options=metadata.get("options") or {},
        indexes=tuple(metadata.get("indexes") or ()),
        uuid=metadata.get("uuid", ""),
        size=int(document.get("size", 0)),
    )
