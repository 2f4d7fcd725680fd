"""Runs one migration, or takes it back, through yoyo-migrations as the owner of the tables.

yoyo reads, orders and records; here its steps, its mark, the digest of the file and the shape of the tables are one
transaction, so that a killed run leaves either nothing or a recorded migration. Two runs cannot meet: whoever applies
holds an advisory lock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.exceptions import BadMigration

from dbkeep.errors import DbkeepError
from dbkeep.postgresql import shape
from dbkeep.postgresql.connect import SHORT_WAIT, Connection, one_line
from dbkeep.postgresql.migrations import rules as migration_rules
from dbkeep.postgresql.migrations.patience import PASSING, patiently
from dbkeep.postgresql.migrations.rules import Concurrent
from dbkeep.postgresql.models import MIGRATION_SCHEMA, Migration
from dbkeep.postgresql.shape import Shape
from dbkeep.postgresql.statements import RunMigration
from dbkeep.settings import PostgreSQLSettings

# What runs CONCURRENTLY waits for older transactions and stands in nobody's way.
CONCURRENT_LOCK_TIMEOUT = "30min"
DIGEST_TABLE = f"""
CREATE TABLE IF NOT EXISTS {MIGRATION_SCHEMA}.digest (
    migration_id text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)
"""
INSERT_DIGEST = f"INSERT INTO {MIGRATION_SCHEMA}.digest (migration_id, sha256) VALUES (:id, :sha256)"  # noqa: S608
DELETE_DIGEST = f"DELETE FROM {MIGRATION_SCHEMA}.digest WHERE migration_id = :id"  # noqa: S608
MIGRATION_TABLE = "_yoyo_migration"


def run(settings: PostgreSQLSettings, database: str, operation: RunMigration) -> None:
    """Apply the migration of `operation` to `database` and record it, or take it back with its record.

    What finds no lock in time is tried again, a bounded number of times, as the log says.

    Raises DbkeepError with file and reason: the tables are not as recorded, another session keeps a lock, or the server
    refuses a statement. The database then is as before.
    """
    wanted = operation.migration
    with _written(wanted) as folder, _backend(settings, database, operation) as backend:
        try:
            backend.execute(DIGEST_TABLE)
            backend.execute(shape.SHAPE_TABLE)
            (migration,) = read_migrations(str(folder))
            backend.ensure_internal_schema_updated()
            patiently(wanted.id, _Run(backend, migration, operation).attempt)
        except PASSING as error:
            raise DbkeepError(
                f"{wanted.path}: {one_line(error)}, again and again: other sessions keep their locks"
                " (pg_stat_activity shows them); run the same command again when they are done"
            ) from None
        except psycopg.Error as error:
            raise DbkeepError(f"{wanted.path}: {one_line(error)}") from None
        except BadMigration as error:
            raise DbkeepError(f"{wanted.path}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Run:
    backend: Any
    migration: Any
    operation: RunMigration

    def attempt(self) -> None:
        """Run the migration once; nothing of it is there when it fails."""
        script = self.operation.migration.rollback if self.operation.back else self.operation.migration.sql
        if migration_rules.transactional(self.operation.migration.sql):
            with self.backend.transaction():
                self._require_recorded_shape()
                for view in self.operation.views:
                    self.backend.execute(sql.SQL("DROP VIEW {}").format(_qualified(view)).as_string(None))
                self._steps()
                self._record()
            return
        index = migration_rules.concurrent(migration_rules.only_statement(script, self.operation.migration.path))
        self._require_recorded_shape(index)
        with self._built_whole(index) if index and index.build else nullcontext():
            self._steps()
        with self.backend.transaction():
            self._record()

    @contextmanager
    def _built_whole(self, index: Concurrent) -> Iterator[None]:
        """A build that was interrupted left an invalid index of this name, and so does one that fails now."""
        self._drop(index)
        try:
            yield
        except psycopg.Error:
            with suppress(psycopg.Error):
                self._drop(index)
            raise

    def _drop(self, index: Concurrent) -> None:
        name = sql.Identifier(index.schema, index.name).as_string(None)
        if self.backend.execute("SELECT to_regclass(:name)", {"name": name}).fetchone() != (None,):
            self.backend.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

    def _steps(self) -> None:
        self.migration.process_steps(self.backend, "rollback" if self.operation.back else "apply")

    def _record(self) -> None:
        declared = self.operation.migration
        if self.operation.back:
            self._require_shape_before()
            self.backend.unmark_one(self.migration)
            self.backend.execute(DELETE_DIGEST, {"id": declared.id})
            return
        before = next(iter(shape.history(self._connection)), None)
        self.backend.mark_one(self.migration)
        self.backend.execute(INSERT_DIGEST, {"id": declared.id, "sha256": declared.digest})
        version = self._connection.info.server_version
        self._connection.execute(shape.record(declared.id, version, self._live(), before))

    @property
    def _connection(self) -> Connection:
        connection: Connection = self.backend.connection
        return connection

    def _live(self) -> Shape:
        """The tables, printed as a plan has them printed: with an empty search path."""
        self._connection.execute("SELECT set_config('search_path', '', false)")
        try:
            return shape.live(self._connection, self.operation.protected)
        finally:
            with suppress(psycopg.Error):
                self._connection.execute("SELECT set_config('search_path', %s, false)", [MIGRATION_SCHEMA])

    def _require_recorded_shape(self, besides: Concurrent | None = None) -> None:
        """A migration is written for the tables that the one before it left. A rollback may meet one of the time before
        shapes were recorded."""
        newest = next(iter(shape.history(self._connection)), None)
        if newest is None:
            return
        if newest.tables is None:
            if self.operation.back:
                return
            raise DbkeepError("no shape of the tables is recorded yet: run `dbkeep apply postgresql` first")
        at = self._difference(newest.tables, newest.version, besides)
        if at:
            raise DbkeepError(f"{at} is not as migrations made it: mend it with `dbkeep apply postgresql` first")

    def _require_shape_before(self) -> None:
        """What is left must be what was there before the migration, where that is recorded."""
        known = shape.history(self._connection)
        before = next((entry for entry in known if entry.migration < self.operation.migration.id), None)
        if before is None or before.tables is not None:
            wanted, version = (before.tables or {}, before.version) if before else ({}, 0)
            at = self._difference(wanted, version)
            if at:
                raise DbkeepError(f"its rollback script leaves {at} other than it was before: mend the script")

    def _difference(self, wanted: Shape, version: int, besides: Concurrent | None = None) -> str | None:
        printed = shape.same_major(version, self._connection.info.server_version)
        for table, (kind, name) in shape.differences(wanted, self._live(), printed=printed):
            if besides is None or (kind, name) != ("index", besides.name):
                return f"{table}: {kind} {name}" if name else f"{kind} {table}"
        return None


def _qualified(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


@contextmanager
def _backend(settings: PostgreSQLSettings, database: str, operation: RunMigration) -> Iterator[Any]:
    inside = migration_rules.transactional(operation.migration.sql)
    options = " ".join(
        f"-c {key}={value}"
        for key, value in {
            "role": operation.owner,
            "search_path": MIGRATION_SCHEMA,
            "lock_timeout": SHORT_WAIT if inside else CONCURRENT_LOCK_TIMEOUT,
            # The server notices a killed migrator while a statement runs, and ends it.
            "client_connection_check_interval": "1s",
            "client_min_messages": "warning",
        }.items()
    )
    arguments = {
        "host": str(settings.socket_directory), "port": settings.port, "options": options, "application_name": "dbkeep",
    }  # fmt: skip
    uri = f"postgresql+psycopg://{quote(settings.user)}:@/{quote(database)}?{urlencode(arguments, quote_via=quote)}"
    backend = PostgresqlPsycopgBackend(parse_uri(uri), MIGRATION_TABLE)
    with backend:
        if "yoyo_lock" not in backend.list_tables():
            backend.create_lock_table()
        yield backend


@contextmanager
def _written(migration: Migration) -> Iterator[Path]:
    """The migration as the files that yoyo reads."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-migrations-") as name:
        folder = Path(name)
        (folder / f"{migration.id}.sql").write_text(migration.sql, encoding="utf-8")
        (folder / f"{migration.id}.rollback.sql").write_text(migration.rollback, encoding="utf-8")
        yield folder
