"""A throw-away server made from the declared state: the pristine database and the copies that are probed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from chat_api.context import Signer
from dbkeep import postgresql
from dbkeep.ports import free_port
from dbkeep.postgresql import context_keys
from dbkeep.postgresql.connect import MAINTENANCE
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.prove.folder import fresh
from dbkeep.postgresql.prove.seed import Seed
from dbkeep.postgresql.prove.world import Connection, World
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import new_password
from dbkeep.settings import PostgreSQLSettings

ADDRESS = "127.0.0.1"
# A definition of the database is no part of it: a copy starts with the default privileges of a new one.
DATABASE_PRIVILEGES = """
SELECT a.privilege_type, a.grantee::regrole::text FROM pg_database, aclexplode(datacl) a
WHERE datname = %s AND a.grantee <> 0 AND a.grantee <> datdba
"""


class Server:
    """`settings` reaches the superuser by the socket; the declared database is never probed, only copied."""

    def __init__(self, settings: PostgreSQLSettings, declared: Declared, passwords: dict[str, str], seed: Seed) -> None:
        self.settings, self.declared, self.seed = settings, declared, seed
        self._passwords = passwords
        self._signer = Signer(context_keys.keys(passwords[context_keys.ENTRY]))
        self._numbers = count(1)

    @contextmanager
    def world(self) -> Iterator[World]:
        """Yield a copy of the declared database, dropped at the end."""
        name = f"world_{next(self._numbers)}"
        with self._superuser(dbname=MAINTENANCE, autocommit=True) as connection:
            self._copy(connection, name)
            try:
                with World(
                    self.declared, self.seed, name, self._keywords, signer=self._signer, open_superuser=self._superuser
                ) as world:
                    yield world
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _copy(self, connection: Connection, name: str) -> None:
        scope = self.declared.scope
        copy, original, owner = map(sql.Identifier, (name, scope.database, scope.owner))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(copy, original, owner))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(copy))
        for privilege, role in connection.execute(DATABASE_PRIVILEGES, [scope.database]).fetchall():
            grant = sql.SQL("GRANT {} ON DATABASE {} TO {}")
            connection.execute(grant.format(sql.SQL(privilege), copy, sql.Identifier(role)))

    def _superuser(self, **options: Any) -> Connection:
        reached: dict[str, Any] = {
            "host": str(self.settings.socket_directory),
            "port": self.settings.port,
            "user": self.settings.user,
        }
        return psycopg.connect(**(reached | options))

    def _keywords(self, role: str) -> dict[str, Any]:
        return {"host": ADDRESS, "port": self.settings.port, "user": role, "password": self._passwords[role]}


@contextmanager
def start(declared: Declared, *, version: int | None = None) -> Iterator[Server]:
    """Start a server of major `version` (or the newest installed) as declared, with people; stop it at the end.

    Raises UsageError when there is no such server, ApplyError when the declared state cannot be applied.
    """
    passwords = {name: new_password() for name in (*postgresql.users(declared), context_keys.ENTRY)}
    seed = Seed()
    with (
        fresh() as folder,
        sandbox.start(folder / "server", version=version, listen_addresses=ADDRESS, port=free_port()) as settings,
    ):
        postgresql.apply(settings, declared, passwords)
        with postgresql.connect(settings, declared.scope.database) as connection:
            seed.insert(connection)
            connection.execute("ANALYZE")
        yield Server(settings, declared, passwords, seed)
