"""Reading migrations: what would not survive a kill or a repetition is refused with file and line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbkeep.errors import DeclaredError
from dbkeep.postgresql import read_declared
from dbkeep.postgresql.migrations import rules as migration_rules

ROOT = Path(__file__).parents[3]
BUILD = "-- transactional: false\n\nCREATE INDEX CONCURRENTLY i ON chat.users (id);\n"
DROP = "DROP INDEX CONCURRENTLY IF EXISTS chat.i;\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The declared state with its first five migrations, so that the next one is 0006."""
    shutil.copytree(ROOT / "sql", tmp_path / "sql")
    for path in (tmp_path / "sql" / "migrations").iterdir():
        if path.name > "0006":
            path.unlink()
    return tmp_path


def add(checkout: Path, script: str, rollback: str | None, name: str = "0006_new") -> None:
    folder = checkout / "sql" / "migrations"
    (folder / f"{name}.sql").write_text(script, encoding="utf-8")
    if rollback is not None:
        (folder / f"{name}.rollback.sql").write_text(rollback, encoding="utf-8")


def test_an_index_outside_a_transaction_is_read(checkout: Path) -> None:
    add(checkout, BUILD, DROP)
    add(checkout, f"-- transactional: false\n{DROP}", BUILD.split("\n\n")[1], name="0007_gone")
    found = read_declared(checkout).migrations
    assert [migration_rules.transactional(m.sql) for m in found[-3:]] == [True, False, False]


@pytest.mark.parametrize(
    ("script", "rollback", "message"),
    [
        ("SELECT 1;", None, r"0006_new.sql: has no rollback script: add 0006_new.rollback.sql"),
        ("-- nothing\n", "SELECT 1;", r"0006_new.sql:1: holds no statement"),
        ("SELECT 1;", "-- nothing\n", r"0006_new.rollback.sql:1: holds no statement"),
        ("SELECT 1", "SELECT 1;", r"0006_new.sql:1: the statement does not end with a semicolon"),
        ("SELECT 1;\n\nCREATE INDEX CONCURRENTLY i ON chat.users (id);", DROP, r"0006_new.sql:3: CONCURRENTLY cannot"),
        (
            "-- x\nCREATE UNIQUE INDEX CONCURRENTLY i ON chat.users (id);",
            DROP,
            r"new.sql:2: CONCURRENTLY cannot run in",
        ),
        ("SELECT 1;", "DROP INDEX concurrently chat.i;", r"0006_new.rollback.sql:1: CONCURRENTLY cannot run in"),
        (f"{BUILD}\nSELECT 1;", DROP, r"0006_new.sql:5: a script outside a transaction must be CREATE INDEX CONC"),
        (f"{BUILD}{DROP}", DROP, r"0006_new.sql:4: a script outside a transaction holds one statement"),
        (BUILD, "DROP INDEX chat.i;", r"0006_new.rollback.sql:1: a script outside a transaction must be"),
        (
            BUILD.replace(" i ON", " IF NOT EXISTS i ON"),
            DROP,
            r"0006_new.sql:3: a script outside a transaction must be",
        ),
        (BUILD.replace(" i ON", " ON"), DROP, r"0006_new.sql:3: a script outside a transaction must be"),
        (BUILD.replace("chat.users", "users"), DROP, r"0006_new.sql:3: a script outside a transaction must be"),
        ("-- transactional: false\nVACUUM chat.users;", DROP, r"0006_new.sql:2: a script outside a transaction must"),
        ("-- transactional: no\nSELECT 1;", "SELECT 1;", r"0006_new.sql:1: transactional is true or false, not no"),
        ("-- depends: 0001_users\nSELECT 1;", "SELECT 1;", r"0006_new.sql:1: migrations run in the order of their"),
        (
            BUILD,
            f"-- transactional: false\n{DROP}",
            r"0006_new.rollback.sql:1: a rollback script runs as its migration",
        ),
        ("SELECT 1;\nCOMMIT;", "SELECT 1;", r"0006_new.sql:2: COMMIT in a migration: dbkeep opens and ends"),
        ("BEGIN;\nSELECT 1;", "SELECT 1;", r"0006_new.sql:1: BEGIN in a migration"),
        ("SELECT 1;\nSET LOCAL lock_timeout = 0;", "SELECT 1;", r"0006_new.sql:2: SET in a migration"),
        ("SET role postgres;", "SELECT 1;", r"0006_new.sql:1: SET in a migration"),
        ("SELECT 1;", "RESET ALL;", r"0006_new.rollback.sql:1: RESET in a migration"),
    ],
)
def test_a_mistake_in_a_script_is_named(checkout: Path, script: str, rollback: str | None, message: str) -> None:
    add(checkout, script, rollback)
    with pytest.raises(DeclaredError, match=message) as caught:
        read_declared(checkout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0005_again", r"0005_refresh_tokens.sql: two migrations have the number 0005: give this one the next free"),
        ("0008_far", r"0008_far.sql: there is no migration 0006 before it: number them without gaps"),
        ("0000_early", r"0000_early.sql: two migrations have the number 0000|0000_early.sql: .*number"),
        ("6_short", r"6_short.sql: a migration's name is four digits"),
    ],
)
def test_a_number_that_does_not_fit_is_named(checkout: Path, name: str, message: str) -> None:
    add(checkout, "SELECT 1;", "SELECT 1;", name)
    with pytest.raises(DeclaredError, match=message):
        read_declared(checkout)


def test_a_rollback_of_nothing_is_named(checkout: Path) -> None:
    (checkout / "sql/migrations/0006_lost.rollback.sql").write_text("SELECT 1;", encoding="utf-8")
    with pytest.raises(DeclaredError, match=r"0006_lost.rollback.sql: takes back a migration that is not there"):
        read_declared(checkout)


def test_the_linter_notices_what_would_lock_users_out(tmp_path: Path) -> None:
    path = tmp_path / "0006_new.sql"
    squawk = [str(Path(sys.executable).with_name("squawk")), "--config", str(ROOT / ".squawk.toml"), str(path)]
    path.write_text("CREATE TABLE chat.t (id uuid PRIMARY KEY, name varchar(10));\n", encoding="utf-8")
    assert subprocess.run(squawk, check=False, capture_output=True).returncode == 0
    path.write_text("CREATE INDEX i ON chat.users (created_at);\n", encoding="utf-8")
    found = subprocess.run(squawk, check=False, capture_output=True, text=True)
    assert found.returncode == 1
    assert "require-concurrent-index-creation" in found.stdout
