"""What entries of the oplog become: transactions take effect where they commit; what cannot be replayed is named."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Timestamp, encode
from bson.raw_bson import RawBSONDocument

from dbkeep.backup.restore.oplog_operations import Command, Write, operations
from dbkeep.errors import DbkeepError


def entry(op: str, ns: str, o: dict[str, Any], **rest: Any) -> RawBSONDocument:
    return RawBSONDocument(encode({"op": op, "ns": ns, "o": o, "ts": Timestamp(100, 7), **rest}))


def insert(number: int) -> dict[str, Any]:
    return {"op": "i", "ns": "chat.a", "o": {"_id": number}, "ui": b"uuid"}


def in_transaction(o: dict[str, Any], number: int = 1) -> RawBSONDocument:
    return entry("c", "admin.$cmd", o, lsid={"id": 5}, txnNumber=number)


def inserted(*entries: RawBSONDocument) -> list[int]:
    found = list(operations(entries, "chat"))
    assert all(isinstance(operation, Write) for operation in found)
    return [operation.operation["o"]["_id"] for operation in found if isinstance(operation, Write)]


def test_a_transaction_of_one_entry_is_unwrapped() -> None:
    (first, second) = operations([in_transaction({"applyOps": [insert(1), insert(2)]})], "chat")
    assert isinstance(first, Write)
    assert set(first.operation) == {"op", "ns", "o"}, "the UUID is another one on another server"
    assert isinstance(second, Write)


def test_a_transaction_of_many_entries_takes_effect_with_its_last() -> None:
    assert inserted(
        in_transaction({"applyOps": [insert(1)], "partialTxn": True}),
        in_transaction({"applyOps": [insert(7)], "partialTxn": True}, number=2),
        entry("i", "chat.a", {"_id": 3}),
        in_transaction({"applyOps": [insert(2)], "count": 2}),
    ) == [3, 1, 2]


def test_a_prepared_transaction_takes_effect_when_it_commits_and_not_when_it_aborts() -> None:
    assert inserted(
        in_transaction({"applyOps": [insert(1)], "partialTxn": True}),
        in_transaction({"applyOps": [insert(2)], "prepare": True}),
        in_transaction({"applyOps": [insert(9)], "prepare": True}, number=2),
        entry("i", "chat.a", {"_id": 3}),
        in_transaction({"abortTransaction": 1}, number=2),
        in_transaction({"commitTransaction": 1, "commitTimestamp": Timestamp(100, 7)}),
        entry("i", "chat.a", {"_id": 4}),
    ) == [3, 1, 2, 4]


def test_a_large_transaction_is_spooled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbkeep.backup.restore.oplog_operations.SPOOL_BYTES", 100)
    parts = [in_transaction({"applyOps": [insert(n)], "partialTxn": True}) for n in range(50)]
    assert inserted(*parts, in_transaction({"applyOps": [insert(50)], "count": 51})) == list(range(51))


@pytest.mark.parametrize("end", [{"commitTransaction": 1}, {"applyOps": [{"op": "n", "ns": "", "o": {}}], "count": 2}])
def test_a_transaction_whose_beginning_is_missing_is_refused(end: dict[str, Any]) -> None:
    with pytest.raises(DbkeepError, match=r"committed at 100\.7 began before the set"):
        list(operations([in_transaction(end)], "chat"))


def test_only_the_database_and_the_accounts_are_replayed() -> None:
    found = list(
        operations(
            [
                entry("n", "", {"msg": "periodic noop"}),
                entry("i", "other.a", {"_id": 1}),
                entry("c", "other.$cmd", {"dropDatabase": 1}),
                entry("i", "config.system.indexBuilds", {"_id": 1}),
                entry("c", "admin.$cmd", {"create": "system.users"}),
                entry("i", "admin.system.version", {"_id": 1}),
                entry("i", "chat.system.js", {"_id": 1}),
                entry("d", "admin.system.users", {"_id": "admin.a"}),
                entry("u", "chat.a", {"$v": 2, "diff": {"u": {"x": 1}}}, o2={"_id": 1}, ui=b"x"),
            ],
            "chat",
        )
    )
    assert [(o.operation["ns"], o.account) for o in found if isinstance(o, Write)] == [
        ("admin.tempusers", True),
        ("chat.a", False),
    ]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("logged", "sent"),
    [
        ({"create": "a", "temp": True, "capped": True}, {"create": "a", "capped": True}),
        ({"create": "system.views"}, None),
        ({"drop": "system.views"}, None),
        ({"startIndexBuild": "a", "indexes": []}, None),
        ({"abortIndexBuild": "a", "indexes": []}, None),
        ({"commitIndexBuild": "a", "indexes": [{"name": "x"}]}, {"createIndexes": "a", "indexes": [{"name": "x"}]}),
        ({"createIndexes": "a", "v": 2, "name": "x"}, {"createIndexes": "a", "indexes": [{"v": 2, "name": "x"}]}),
        ({"dropIndexes": "a", "index": "x"}, {"dropIndexes": "a", "index": "x"}),
        ({"collMod": "a", "validator": {}}, {"collMod": "a", "validator": {}}),
        ({"dropDatabase": 1}, {"dropDatabase": 1}),
        (
            {"renameCollection": "chat.a", "to": "chat.b", "stayTemp": False, "dropTarget": b"uuid"},
            {"renameCollection": "chat.a", "to": "chat.b", "dropTarget": True},
        ),
    ],
)
def test_changes_of_shape_become_commands(logged: dict[str, Any], sent: dict[str, Any] | None) -> None:
    found = list(operations([entry("c", "chat.$cmd", logged)], "chat"))
    commands = [operation.command for operation in found if isinstance(operation, Command)]
    assert [{k: _plain(v) for k, v in command.items()} for command in commands] == ([sent] if sent else [])


def _plain(value: Any) -> Any:
    if isinstance(value, RawBSONDocument):
        return dict(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "unknown",
    [
        entry("c", "chat.$cmd", {"importCollection": "a"}),
        entry("xi", "chat.a", {"_id": 1}),
        entry("i", "chat.system.buckets.t", {"_id": 1}),
        entry("u", "chat.system.views", {"$v": 2, "diff": {}}, o2={"_id": "chat.v"}),
    ],
)
def test_what_cannot_be_replayed_is_refused_by_name(unknown: RawBSONDocument) -> None:
    with pytest.raises(DbkeepError, match=r"chat\.(a|system\.buckets\.t|v)"):
        list(operations([unknown], "chat"))
