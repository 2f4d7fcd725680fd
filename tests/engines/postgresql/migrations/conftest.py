"""A server of their own for the migrations' tests: as declared before each, with migrations to add."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbkeep import postgresql
from dbkeep.postgresql import Declared, shape
from dbkeep.postgresql.migrations import history, patience
from dbkeep.postgresql.models import Migration
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

Session = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def ours(servers: Path) -> Iterator[PostgreSQLSettings]:
    with sandbox.start(servers / "migrations") as settings:
        yield settings


@pytest.fixture
def server(
    ours: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> PostgreSQLSettings:
    """The server as declared, before each test; the waits between attempts are short."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    with postgresql.connect(ours, "postgres") as connection:
        connection.execute("DROP DATABASE IF EXISTS chat WITH (FORCE)")
    postgresql.apply(ours, declared, secrets)
    return ours


@pytest.fixture
def session(server: PostgreSQLSettings) -> Iterator[Session]:
    with open_session(server) as found:
        yield found


def open_session(server: PostgreSQLSettings) -> Session:
    return psycopg.connect(
        host=str(server.socket_directory), port=server.port, user="postgres", dbname="chat", autocommit=True
    )


def with_migration(declared: Declared, name: str, sql: str, rollback: str) -> Declared:
    new = Migration(id=name, path=f"sql/migrations/{name}.sql", sql=sql, rollback=rollback)
    return declared.model_copy(update={"migrations": (*declared.migrations, new)})


@pytest.fixture
def grown(declared: Declared) -> Declared:
    """One more migration: a table and a column."""
    return with_migration(
        declared,
        "0099_notes",
        "CREATE TABLE chat.notes (id int PRIMARY KEY, text text);\nALTER TABLE chat.users ADD COLUMN nick text;\n",
        "ALTER TABLE chat.users DROP COLUMN nick;\nDROP TABLE chat.notes;\n",
    )


@pytest.fixture
def indexed(declared: Declared) -> Declared:
    """One more migration: an index built outside a transaction."""
    return with_migration(
        declared,
        "0099_probe",
        "-- transactional: false\n\nCREATE UNIQUE INDEX CONCURRENTLY users_probe ON chat.users (created_at);\n",
        "DROP INDEX CONCURRENTLY IF EXISTS chat.users_probe;\n",
    )


def states(server: PostgreSQLSettings, declared: Declared) -> dict[str, str]:
    return {entry.id: entry.state for entry in history.status(server, declared)}


def live(server: PostgreSQLSettings) -> shape.Shape:
    with postgresql.connect(server) as connection:
        return shape.live(connection, ["chat"])


def exists(session: Session, name: str) -> bool:
    return session.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() == (True,)


def recorded(session: Session, migration: str) -> tuple[int, int, int]:
    """Rows about a migration in yoyo's table, among the digests, among the shapes."""
    counts = [
        session.execute(f"SELECT count(*) FROM migration.{table} WHERE migration_id = %s", [migration]).fetchone()
        for table in ("_yoyo_migration", "digest", "shape")
    ]
    first, second, third = [count[0] for count in counts if count]
    return first, second, third


def wait_for(server: PostgreSQLSettings, query: str) -> None:
    """Wait until `query` finds a row; the test's own time limit ends a wait in vain."""
    with open_session(server) as watcher:
        while watcher.execute(query).fetchone() is None:
            time.sleep(0.05)
