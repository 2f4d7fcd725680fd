"""Reading sql/: what is wrong is named with file, line and key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from dbkeep.errors import DeclaredError
from dbkeep.postgresql import read_declared, users

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "sql", tmp_path / "sql")
    return tmp_path


def test_the_declared_state_of_this_checkout() -> None:
    declared = read_declared(ROOT)
    assert declared.tables == tuple(
        f"chat.{name}" for name in ("context_keys", "profiles", "refresh_tokens", "relationships", "settings", "users")
    )
    assert {"app_api", "app_auth", "chat_backup"} <= set(users(declared))
    assert not {"chat_owner", "chat_definer"} & set(users(declared))
    position = {function.name: index for index, function in enumerate(declared.functions)}
    assert position["chat.current_user_id"] < position["chat.answer_friendship"]
    assert position["chat.lock_pair"] < position["chat.end_relationship"]


MISTAKES = yaml.safe_load(Path(__file__).with_name("mistakes.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake["message"] for mistake in MISTAKES])
def test_a_mistake_is_named(checkout: Path, mistake: dict[str, str]) -> None:
    path = checkout / "sql" / mistake["file"]
    text = path.read_text(encoding="utf-8")
    assert mistake["old"] in text
    path.write_text(text.replace(mistake["old"], mistake["new"], 1), encoding="utf-8")
    with pytest.raises(DeclaredError, match=mistake["message"]) as caught:
        read_declared(checkout)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(checkout: Path) -> None:
    (checkout / "sql/migrations/0002_profiles.rollback.sql").unlink()
    with pytest.raises(DeclaredError, match=r"0002_profiles.sql: has no rollback script: add 0002_profiles.rollback"):
        read_declared(checkout)
    (checkout / "sql/roles.yml").unlink()
    with pytest.raises(DeclaredError, match=r"roles.yml: file is missing"):
        read_declared(checkout)
    shutil.rmtree(checkout / "sql/migrations")
    shutil.copy(ROOT / "sql/roles.yml", checkout / "sql/roles.yml")
    with pytest.raises(DeclaredError, match=r"migrations: no .sql file"):
        read_declared(checkout)


def test_a_migration_needs_a_number(checkout: Path) -> None:
    (checkout / "sql/migrations/more.sql").write_text("SELECT 1;", encoding="utf-8")
    with pytest.raises(DeclaredError, match=r"more.sql: a migration's name is four digits"):
        read_declared(checkout)
