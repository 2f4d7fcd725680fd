"""Declared-state files: an error names file, line and key."""

from pathlib import Path

import pytest

from dbkeep.declared import Model, read_model, read_yaml
from dbkeep.errors import DeclaredError


class Role(Model):
    login: bool
    limit: int = 1


class Roles(Model):
    roles: dict[str, Role]


GOOD = """\
roles:
  app_api:
    login: true
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "roles.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_becomes_a_model(tmp_path: Path) -> None:
    assert read_model(write(tmp_path, GOOD), Roles).roles["app_api"].login is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "    limit: many\n", r"roles.yml:4: roles\.app_api\.limit: "),
        (GOOD + "    colour: red\n", r"roles.yml:4: roles\.app_api\.colour: "),
        ("roles:\n  app_api:\n    limit: 1\n", r"roles.yml:2: roles\.app_api\.login: "),
        (GOOD + "  app_api:\n    login: false\n", r"roles.yml:4: roles\.app_api: the key stands twice"),
        ("roles: [1, 2\n", r"roles.yml:2: not valid YAML"),
        ("", "roles.yml: "),
        ("- a\n", "roles.yml:1: "),
    ],
    ids=["wrong type", "unknown key", "missing key", "key twice", "broken YAML", "empty", "not a mapping"],
)
def test_a_wrong_file_is_named_with_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DeclaredError, match=expected) as caught:
        read_model(write(tmp_path, text), Roles)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeclaredError, match=r"none\.yml: file is missing"):
        read_yaml(tmp_path / "none.yml")
