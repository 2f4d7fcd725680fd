"""What entries of the oplog did to one database and to the accounts, as operations that another server can apply.

Transactions are unwrapped where they committed. Changes of documents stay as they are, without the collection's UUID,
which is another one on another server; changes of shape become the commands that a client would send, because applyOps
refuses most of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, Any, cast

from bson import decode_file_iter

from dbkeep.backup.raw_reply import RAW
from dbkeep.errors import DbkeepError

# mongorestore's own names; the server reads the accounts from them in _mergeAuthzCollections.
TEMPORARY = {"system.users": "tempusers", "system.roles": "temproles"}
SPOOL_BYTES = 16 << 20
WRITES = ("i", "u", "d")
# A build that did not end left no index; what ended is in commitIndexBuild. dbCheck changes nothing.
NOTHING = ("startIndexBuild", "abortIndexBuild", "dbCheck")
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Write:
    """One change of a document, as applyOps takes it; of an account it goes to the temporary collection of accounts."""

    operation: dict[str, Any]
    account: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One change of shape: what to send to which database."""

    database: str
    command: dict[str, Any]


@dataclass
class Transactions:
    """The operations of transactions that have not committed yet; large ones are on disk, in unnamed files."""

    _open: dict[tuple[bytes, int], IO[bytes]] = field(default_factory=dict)

    def unwrap(self, entry: Entry) -> Iterator[Entry]:
        """Yield the operations that are in effect from this entry on. Raises DbkeepError when some were never seen."""
        content = entry["o"]
        if entry["op"] != "c":
            yield entry
        elif "applyOps" in content:
            yield from self._apply(entry, content)
        elif "commitTransaction" in content:
            spool = self._open.pop(_key(entry), None)
            if spool is None:
                raise _unseen(entry)
            yield from _read(spool)
        elif "abortTransaction" in content:
            if spool := self._open.pop(_key(entry), None):
                spool.close()
        else:
            yield entry

    def close(self) -> None:
        """Forget the transactions that never committed."""
        for spool in self._open.values():
            spool.close()

    def _apply(self, entry: Entry, content: Entry) -> Iterator[Entry]:
        operations = content["applyOps"]
        if "lsid" not in entry or "txnNumber" not in entry:
            yield from operations
            return
        key = _key(entry)
        if "partialTxn" in content or "prepare" in content:
            spool = self._open.get(key)
            if spool is None:
                spool = self._open[key] = cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115
            for operation in operations:
                spool.write(operation.raw)
            return
        spool = self._open.pop(key, None)
        if spool is None and content.get("count", len(operations)) != len(operations):
            raise _unseen(entry)
        if spool is not None:
            yield from _read(spool)
        yield from operations


def _key(entry: Entry) -> tuple[bytes, int]:
    return entry["lsid"].raw, entry["txnNumber"]


def _read(spool: IO[bytes]) -> Iterator[Entry]:
    with spool:
        spool.seek(0)
        yield from decode_file_iter(spool, RAW)


def _unseen(entry: Entry) -> DbkeepError:
    time = entry["ts"]
    return DbkeepError(
        f"mongodb: a transaction that committed at {time.time}.{time.inc} began before the set; restore a later set"
    )


def operations(entries: Iterable[Entry], database: str) -> Iterator[Write | Command]:
    """Yield what `entries`, as RawBSONDocument, did to `database` and to users and roles, in the order of effect.

    Raises DbkeepError for what cannot be applied to another server, naming it.
    """
    with closing(Transactions()) as transactions:
        for entry in entries:
            for operation in transactions.unwrap(entry):
                yield from _translate(operation, database)


def _translate(operation: Entry, database: str) -> Iterator[Write | Command]:
    kind = operation["op"]
    source, _, collection = operation.get("ns", "").partition(".")
    if kind == "n" or (source != database and (source != "admin" or collection not in TEMPORARY)):
        return
    if kind == "c":
        yield from _command(database, operation["o"])
    elif kind not in WRITES:
        raise DbkeepError(f"mongodb: the oplog has an operation of kind {kind!r} on {source}.{collection}: {_UNKNOWN}")
    elif source == "admin":
        yield Write(_write(operation, f"admin.{TEMPORARY[collection]}"), account=True)
    elif collection == "system.views":
        yield _view(database, kind, operation)
    elif not collection.startswith("system."):
        yield Write(_write(operation, operation["ns"]))
    elif collection.startswith("system.buckets."):
        raise DbkeepError(f"mongodb {source}.{collection}: time series collections are not backed up; use mongodump")


_UNKNOWN = "it cannot be replayed; choose a moment before it, or a set after it"


def _write(operation: Entry, namespace: str) -> dict[str, Any]:
    kept = {"op": operation["op"], "ns": namespace, "o": operation["o"]}
    if operation["op"] == "u":
        kept["o2"] = operation["o2"]
    return kept


def _view(database: str, kind: str, operation: Entry) -> Command:
    content = dict(operation["o"])
    name = str(content.pop("_id", None) or operation["o2"]["_id"]).removeprefix(f"{database}.")
    if kind == "d":
        return Command(database, {"drop": name})
    if "viewOn" not in content:
        raise DbkeepError(f"mongodb {database}.{name}: the view was changed in a way that is not known: {_UNKNOWN}")
    return Command(database, {("create" if kind == "i" else "collMod"): name, **content})


def _command(database: str, content: Entry) -> Iterator[Command]:
    name = next(iter(content))
    target = content[name]
    rest = {key: value for key, value in content.items() if key != name}
    # The collection of views comes and goes with the views themselves.
    if name in NOTHING or (isinstance(target, str) and target.startswith("system.") and name in ("create", "drop")):
        return
    if name == "create":
        # "temp" is the server's own: such a collection is renamed or dropped by a later entry.
        yield Command(database, {"create": target, **{k: v for k, v in rest.items() if k != "temp"}})
    elif name == "createIndexes":
        yield Command(database, {"createIndexes": target, "indexes": [rest]})
    elif name == "commitIndexBuild":
        yield Command(database, {"createIndexes": target, "indexes": list(content["indexes"])})
    elif name in ("collMod", "dropDatabase", "drop"):
        yield Command(database, {name: target, **rest})
    elif name in ("dropIndexes", "deleteIndexes"):
        yield Command(database, {"dropIndexes": target, "index": content["index"]})
    elif name == "renameCollection":
        yield Command(
            "admin", {"renameCollection": target, "to": content["to"], "dropTarget": bool(content.get("dropTarget"))}
        )
    else:
        raise DbkeepError(f"mongodb: the oplog has the command {name} on {database}.{target}: {_UNKNOWN}")
