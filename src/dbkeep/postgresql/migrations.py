"""Runs one migration through yoyo-migrations, as the owner of the tables.

yoyo reads, orders and records; here its steps, its mark and the digest of the file are one transaction, so that a
killed run leaves either nothing or a recorded migration. Two runs cannot meet: apply holds an advisory lock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.exceptions import BadMigration

from dbkeep.errors import DbkeepError
from dbkeep.postgresql.connect import one_line
from dbkeep.postgresql.models import MIGRATION_SCHEMA, Migration
from dbkeep.postgresql.statements import RunMigration
from dbkeep.settings import PostgreSQLSettings

DIGEST_TABLE = f"""
CREATE TABLE IF NOT EXISTS {MIGRATION_SCHEMA}.digest (
    migration_id text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)
"""
INSERT_DIGEST = f"INSERT INTO {MIGRATION_SCHEMA}.digest (migration_id, sha256) VALUES (:id, :sha256)"  # noqa: S608
MIGRATION_TABLE = "_yoyo_migration"


def run(settings: PostgreSQLSettings, database: str, operation: RunMigration) -> None:
    """Apply the migration of `operation` to `database` and record it.

    Raises DbkeepError with file and reason; the database then is as before, except for a migration that declares
    itself not transactional.
    """
    wanted = operation.migration
    with _written(operation.all_migrations) as folder, _backend(settings, database, operation.owner) as backend:
        try:
            backend.execute(DIGEST_TABLE)
            migration = next(m for m in backend.to_apply(read_migrations(str(folder))) if m.id == wanted.id)
            migration.load()
            if migration.use_transactions:
                with backend.transaction():
                    migration.process_steps(backend, "apply")
                    _record(backend, migration, wanted)
            else:
                migration.process_steps(backend, "apply")
                with backend.transaction():
                    _record(backend, migration, wanted)
        except psycopg.Error as error:
            raise DbkeepError(f"{wanted.path}: {one_line(error)}") from None
        except BadMigration as error:
            raise DbkeepError(f"{wanted.path}: {error}") from None


def _record(backend: Any, migration: Any, declared: Migration) -> None:
    backend.mark_one(migration)
    backend.execute(INSERT_DIGEST, {"id": declared.id, "sha256": declared.digest})


@contextmanager
def _backend(settings: PostgreSQLSettings, database: str, owner: str) -> Iterator[Any]:
    options = f"-c role={owner} -c search_path={MIGRATION_SCHEMA} -c lock_timeout=5s -c client_min_messages=warning"
    arguments = {"host": str(settings.socket_directory), "port": settings.port, "options": options}
    uri = f"postgresql+psycopg://{quote(settings.user)}:@/{quote(database)}?{urlencode(arguments, quote_via=quote)}"
    backend = PostgresqlPsycopgBackend(parse_uri(uri), MIGRATION_TABLE)
    with backend:
        if "yoyo_lock" not in backend.list_tables():
            backend.create_lock_table()
        yield backend


@contextmanager
def _written(migrations: Sequence[Migration]) -> Iterator[Path]:
    """The migrations as the files that yoyo reads."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-migrations-") as name:
        folder = Path(name)
        for migration in migrations:
            (folder / f"{migration.id}.sql").write_text(migration.sql, encoding="utf-8")
            (folder / f"{migration.id}.rollback.sql").write_text(migration.rollback, encoding="utf-8")
        yield folder
