"""Encrypts stored addresses again with the newest key, beside the running API, as app_keys.

The values carry the state: an interrupted run leaves values of both versions, both can be read, and the next run takes
up those of older versions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row

from chat_api.configuration import Configuration
from chat_api.encryption import FORMAT, BlindIndex, Cell, DecryptionError, FieldCipher, normal_address

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]

ROLE = "app_keys"
BATCH = 200
IDLE_PASSES = 5
"""How often rows that others keep locked are tried again."""
PASS_SECONDS = 1.0
UNREADABLE_NAMED = 10
_LOCK = "chat reencryption"


class ReencryptionError(Exception):
    """The run cannot go on; what it wrote until then is good. The message is one line."""


@dataclass
class Survey:
    """How many values each key version has. `indexes` is None where there is one index key; version 0 fits none."""

    values: dict[int, int] = field(default_factory=dict)
    indexes: dict[int, int] | None = None


@dataclass
class Result:
    """`unreadable` counts the values that did not decrypt or could not be stored; `rows` are the first of them."""

    rewritten: int = 0
    unreadable: int = 0
    rows: list[str] = field(default_factory=list)
    seconds: float = 0.0


def connect(configuration: Configuration, password: str) -> Connection:
    """Open an autocommit connection as app_keys, as the API reaches the server; raises psycopg.OperationalError."""
    servers = configuration.postgresql_hosts
    return psycopg.connect(
        host=",".join(server.host for server in servers),
        port=",".join(str(server.port) for server in servers),
        dbname=configuration.postgresql_database,
        user=ROLE,
        password=password,
        application_name="chat_api reencryption",
        connect_timeout=5,
        target_session_attrs="read-write",
        sslmode="verify-full",
        sslrootcert=str(configuration.ca_file),
        autocommit=True,
        row_factory=namedtuple_row,
    )


@dataclass
class Reencryption:
    """Works on chat.users.email and its blind index with all keys there are, over `connection`.

    `every` also looks at values of the newest version, whose index may be of an older key.
    """

    connection: Connection
    cipher: FieldCipher
    index: BlindIndex
    every: bool = False

    def survey(self) -> Survey:
        """Count the values by version, 0 for what is no envelope; with `every` also the indexes, by decrypting all."""
        rows = self.connection.execute(
            "SELECT CASE WHEN email ~ '^e1:[1-9][0-9]{0,8}:' THEN split_part(email, ':', 2)::int ELSE 0 END AS version,"
            " count(*) AS number FROM chat.users GROUP BY 1"
        )
        found = Survey({row.version: row.number for row in rows})
        if self.every:
            counter = Counter(self._index_version(row) for batch in self._batches() for row in batch)
            found.indexes = dict(counter)
        return found

    def run(self, *, rate: float | None = None, on_progress: Progress = lambda _done, _total: None) -> Result:
        """Encrypt every value of an older version again, at most `rate` a second, until there is none left.

        Raises ReencryptionError when another run is at work or rows stay locked, psycopg.Error for the server's.
        """
        started = time.monotonic()
        self._lock()
        result = Result()
        values = self.survey().values
        total = sum(values.values()) if self.every else sum(values.values()) - values.get(self.cipher.newest, 0)
        idle = 0
        while idle < IDLE_PASSES:
            before = result.rewritten
            # What does not decrypt now will not in the next pass either.
            result.unreadable, result.rows = 0, []
            locked = 0
            for batch in self._batches():
                locked += self._rewrite(batch, result)
                on_progress(min(result.rewritten, total), total)
                if rate:
                    time.sleep(max(0.0, started + result.rewritten / rate - time.monotonic()))
            if not locked and result.rewritten == before:
                result.seconds = time.monotonic() - started
                return result
            idle = idle + 1 if result.rewritten == before else 0
            time.sleep(PASS_SECONDS if locked else 0)
        raise ReencryptionError(f"{locked} rows of chat.users stay locked by other sessions: run it again later")

    def _lock(self) -> None:
        try:
            self.connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (_LOCK,))
        except psycopg.errors.LockNotAvailable:
            raise ReencryptionError("another session of app_keys re-encrypts already: wait for it") from None

    def _batches(self) -> Iterator[list[Any]]:
        """Yield rows to look at by ascending id; ids are ordered by time, so new rows come last."""
        after = UUID(int=0)
        while True:
            batch = self.connection.execute(
                "SELECT id, email, email_index FROM chat.users WHERE id > %s AND (%s OR email NOT LIKE %s)"
                " ORDER BY id LIMIT %s",
                (after, self.every, f"{FORMAT}:{self.cipher.newest}:%", BATCH),
            ).fetchall()
            if batch:
                yield batch
            if len(batch) < BATCH:
                return
            after = batch[-1].id

    def _rewrite(self, batch: Sequence[Any], result: Result) -> int:
        """Write what needs it of `batch`, note it in `result`, and return how many rows were locked or changed."""
        new = []
        for row in batch:
            try:
                new += self._new_row(row)
            except DecryptionError:
                _note(result, row.id)
        return self._write(new, result) if new else 0

    def _new_row(self, row: Any) -> list[tuple[UUID, str, str, bytes]]:
        cell = Cell("users", "email", row.id)
        text = self.cipher.decrypt(row.email, cell)
        email_index = self.index.of(normal_address(text))
        if row.email.startswith(f"{FORMAT}:{self.cipher.newest}:") and row.email_index == email_index:
            return []
        return [(row.id, row.email, self.cipher.encrypt(text, cell), email_index)]

    def _write(self, new: list[tuple[UUID, str, str, bytes]], result: Result) -> int:
        """One statement, so a batch is written as a whole; a row whose value is no longer the old one stays."""
        ids, old, emails, indexes = zip(*new, strict=True)
        try:
            done = self.connection.execute(
                "UPDATE chat.users SET email = new.email, email_index = new.email_index"
                " FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::bytea[]) AS new (id, old, email, email_index)"
                " WHERE users.id = new.id AND users.email = new.old",
                (list(ids), list(old), list(emails), list(indexes)),
            )
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            return len(new)
        except psycopg.errors.UniqueViolation:
            if len(new) == 1:
                _note(result, ids[0])
                return 0
            half = len(new) // 2
            return self._write(new[:half], result) + self._write(new[half:], result)
        result.rewritten += done.rowcount
        return len(new) - done.rowcount

    def _index_version(self, row: Any) -> int:
        try:
            text = self.cipher.decrypt(row.email, Cell("users", "email", row.id))
        except DecryptionError:
            return 0
        fitting = (v for v, index in self.index.candidates(normal_address(text)).items() if index == row.email_index)
        return next(fitting, 0)


def _note(result: Result, row: UUID) -> None:
    result.unreadable += 1
    if len(result.rows) < UNREADABLE_NAMED:
        result.rows.append(str(row))
