"""The mongodump archive format and the cutting of raw replies."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import bson
import pytest
from bson import Int64, Timestamp

from dbkeep.backup.archive_format import Collection, NamespaceWriter, Reader, prelude
from dbkeep.backup.raw_reply import cut
from dbkeep.errors import DbkeepError

MESSAGES = Collection(
    database="chat",
    name="messages",
    kind="collection",
    options={"validator": {"$jsonSchema": {"maxLength": 4000}}, "size": Int64(5)},
    indexes=({"v": 2, "key": {"b": 1, "a": -1}, "name": "b_a", "expireAfterSeconds": 5},),
    uuid="ab" * 16,
)
EMPTY = Collection("chat", "empty", "collection", {}, ())
VIEW = Collection("chat", "view", "view", {"viewOn": "messages", "pipeline": []}, ())
DOCUMENTS = [{"_id": n, "at": datetime(2026, 1, 1, tzinfo=UTC), "text": "x" * 5000} for n in range(600)]


def archive() -> bytes:
    pieces = [prelude([MESSAGES, EMPTY, VIEW], server_version="6.0.5", tool_version="test")]
    for collection, documents in ((MESSAGES, DOCUMENTS), (EMPTY, [])):
        writer = NamespaceWriter(collection.namespace)
        pieces += [writer.start(), *(writer.add(bson.encode(document)) for document in documents), writer.end()]
    return b"".join(pieces)


def read(content: bytes) -> tuple[Reader, dict[tuple[str, str], list[bytes]]]:
    reader = Reader(io.BytesIO(content), "dump")
    found: dict[tuple[str, str], list[bytes]] = {}
    for namespace, documents in reader.batches():
        found.setdefault(namespace, []).extend(documents)
    return reader, found


def test_an_archive_is_read_as_it_was_written() -> None:
    reader, found = read(archive())
    assert [c.name for c in reader.collections] == ["messages", "empty", "view"]
    assert reader.collections[0].options == MESSAGES.options
    assert isinstance(reader.collections[0].options["size"], Int64)
    assert list(reader.collections[0].indexes[0]["key"].items()) == [("b", 1), ("a", -1)]
    assert found == {("chat", "messages"): [bson.encode(document) for document in DOCUMENTS]}


def test_a_document_of_the_largest_size_is_a_batch_of_its_own() -> None:
    """What inserts a batch is one document itself: 16 MiB and little more (MongoDB limits and thresholds)."""
    writer = NamespaceWriter(EMPTY.namespace)
    small, large = bson.encode({"x": "s" * 900_000}), bson.encode({"x": "l" * (16 * 1024 * 1024 - 100)})
    pieces = [prelude([EMPTY], server_version="6.0.5", tool_version="test"), writer.start()]
    content = b"".join([*pieces, *map(writer.add, (small, large, small)), writer.end()])
    batches = [documents for _, documents in Reader(io.BytesIO(content), "dump").batches()]
    assert batches == [[small], [large], [small]]


def test_the_first_bytes_are_the_magic_number_of_mongodump() -> None:
    assert archive()[:4] == bytes.fromhex("6de29981")


def test_segments_of_two_collections_may_alternate() -> None:
    left, right = Collection("a", "l", "collection", {}, ()), Collection("a", "r", "collection", {}, ())
    writers = {c.name: NamespaceWriter(c.namespace) for c in (left, right)}
    pieces = [prelude([left, right], server_version="", tool_version="")]
    for number in range(4):
        writer = writers["lr"[number % 2]]
        pieces += [writer.start(), writer.add(bson.encode({"n": number})), b"\xff\xff\xff\xff"]
    pieces += [writer.end()[4:] for writer in writers.values()]
    found = read(b"".join(pieces))[1]
    assert [bson.decode(d)["n"] for d in found["a", "l"]] == [0, 2]
    assert [bson.decode(d)["n"] for d in found["a", "r"]] == [1, 3]


@pytest.mark.parametrize("keep", [0, 3, 100, 5000, 1_000_000, -1, -4, -60])
def test_an_archive_that_ends_early_is_refused(keep: int) -> None:
    with pytest.raises(DbkeepError, match="dump: not a complete mongodump archive"):
        read(archive()[:keep])


def test_an_archive_without_the_end_of_a_collection_is_refused() -> None:
    writer = NamespaceWriter(EMPTY.namespace)
    missing = len(writer.start() + writer.end())
    with pytest.raises(DbkeepError, match=r"it ends before chat\.empty does"):
        read(archive()[:-missing])


def test_a_changed_document_fails_its_checksum() -> None:
    content = archive().replace(b"x" * 5000, b"x" * 4999 + b"y", 1)
    with pytest.raises(DbkeepError, match=r"the checksum of chat\.messages differs"):
        read(content)


def test_documents_are_cut_out_of_a_reply() -> None:
    documents = [{"_id": n, "name": "ä" * n, "nested": {"a": [1, {"b": None}]}} for n in range(300)]
    cursor = {
        "firstBatch": documents,
        "partialResultsReturned": False,
        "atClusterTime": Timestamp(5, 6),
        "id": Int64(1 << 40),
        "ns": "chat.messages",
    }
    cursor_id, raw, number = cut(bson.encode(cursor))
    assert (cursor_id, number) == (1 << 40, 300)
    assert bson.decode_all(raw) == documents
    assert cut(bson.encode({"id": Int64(0), "ns": "x", "nextBatch": []})) == (0, b"", 0)


@pytest.mark.parametrize("cursor", [{"id": Int64(1)}, {"firstBatch": []}, {"firstBatch": [5], "id": Int64(0)}])
def test_what_is_no_cursor_is_refused(cursor: dict[str, object]) -> None:
    with pytest.raises(DbkeepError, match="mongodb: a "):
        cut(bson.encode(cursor))
