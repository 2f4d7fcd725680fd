"""The keys that a signed context is verified with: those of the vault against the pads in chat.context_keys.

The vault's `postgresql.context_key` is a key ring: the server accepts every key of it, also one that is still pending.
They are written as bound parameters of unlogged statements: no log, no statistic and no list of running statements ever
shows one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from psycopg import sql

from chat_api.key_ring import KeyRing
from dbkeep.errors import UsageError
from dbkeep.plan import Change
from dbkeep.postgresql import statements
from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.models import Declared

ENTRY = "context_key"
TABLE = "chat.context_keys"
# The block of SHA-256, and what it is combined with to be the inner and the outer pad (RFC 2104, section 2).
BLOCK_BYTES = 64
INNER, OUTER = 0x36, 0x5C

DIGESTS = sql.SQL("SELECT id, sha256(inner_pad || outer_pad) FROM {}").format(statements.qualified(TABLE))
DELETE = sql.SQL("DELETE FROM {} WHERE id = %s").format(statements.qualified(TABLE))
WRITE = sql.SQL(
    "INSERT INTO {} VALUES (%s, %s, %s)"
    " ON CONFLICT (id) DO UPDATE SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad"
).format(statements.qualified(TABLE))


@dataclass(frozen=True, slots=True)
class Pads:
    """A key as HMAC-SHA-256 uses it."""

    inner: bytes = field(repr=False)
    outer: bytes = field(repr=False)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.inner + self.outer).digest()


@dataclass(frozen=True, slots=True)
class WriteKey:
    """Sets the key `id`, or removes it when `pads` is None."""

    id: int
    pads: Pads | None


def keys(secret: str) -> KeyRing:
    """Return the keys of the vault. Raises UsageError, without any of it, when `secret` holds none."""
    try:
        return KeyRing.parse(secret)
    except ValueError as error:
        raise UsageError(f"dbkeep_secrets.postgresql.{ENTRY}: {error}: make one with `dbkeep init`") from None


def pads(key: bytes) -> Pads:
    block = key.ljust(BLOCK_BYTES, b"\0")
    return Pads(bytes(byte ^ INNER for byte in block), bytes(byte ^ OUTER for byte in block))


def read(connection: Connection) -> dict[int, bytes]:
    """Return the digests of the live keys by id; none before the migration that makes the table."""
    found = connection.execute("SELECT to_regclass(%s)", [TABLE]).fetchone()
    return dict(connection.execute(DIGESTS).fetchall()) if found != (None,) else {}


def diff(declared: Declared, live: Mapping[int, bytes], secrets: Mapping[str, str]) -> Iterator[Change]:
    """Keys that are missing, not the ones of the vault, or not in it. Without keys in `secrets` the live ones stay.

    Raises UsageError when the secret holds no keys.
    """
    if TABLE not in declared.tables:
        return
    if ENTRY not in secrets:
        if declared.scope.context == "signed" and not live:
            yield _change(
                1, None, "set", refused="the environment has no key to sign with: generate one with `dbkeep init`"
            )
        return
    wanted = {identifier: pads(key) for identifier, key in keys(secrets[ENTRY]).keys.items()}
    for identifier, pair in wanted.items():
        if live.get(identifier) != pair.digest:
            yield _change(identifier, pair, "replace" if identifier in live else "set")
    for identifier in live.keys() - wanted.keys():
        yield _change(identifier, None, "remove: not in the vault")


def run(connection: Connection, operation: WriteKey) -> None:
    with connection.transaction():
        connection.execute(statements.UNLOGGED)
        if operation.pads is None:
            connection.execute(DELETE, [operation.id])
        else:
            connection.execute(WRITE, [operation.id, operation.pads.inner, operation.pads.outer])


def _change(identifier: int, pair: Pads | None, summary: str, refused: str | None = None) -> Change:
    what = WRITE if pair else DELETE
    return Change(
        engine="postgresql", kind="context key", target=str(identifier), summary=summary, refused=refused,
        statement=what.as_string(None).replace("%s", "'…'"), operation=WriteKey(identifier, pair),
    )  # fmt: skip
