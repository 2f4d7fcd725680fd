"""Files of mongo/migrations are checked without being run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbkeep.errors import DeclaredError
from dbkeep.mongodb.migrations.files import read

GOOD = '''"""Fill a field.

More about it.
"""

raise SystemExit("a migration was run when it was read")

def up(documents):
    pass

def down(documents):
    pass

def verify(documents):
    return 0
'''
BAD = [
    ("0001_a.py", GOOD.replace("def up(documents):", "def up(documents:"), "0001_a.py:8: not valid Python"),
    ("0001_a.py", GOOD.replace('"""', "'", 1).replace('"""', "'", 1), "0001_a.py:1: not valid Python"),
    ("0001_a.py", GOOD[GOOD.index("raise") :], "0001_a.py:1: says in no docstring what it is for"),
    ("0001_a.py", GOOD.replace("def down", "def back"), "0001_a.py:1: has no function down(documents)"),
    ("0001_a.py", GOOD.replace("verify(documents)", "verify()"), "0001_a.py:14: verify: takes one argument, documents"),
    ("first.py", GOOD, "first.py: a migration is named like 0001_what_it_does.py"),
    ("0002_c.py", GOOD, "0002_c.py: number 0002 is also that of 0002_b.py"),
]


def test_migrations_come_in_order_with_what_they_are_for(tmp_path: Path) -> None:
    for name in ("0002_b", "0001_a"):
        (tmp_path / f"{name}.py").write_text(GOOD, encoding="utf-8")
    first, second = read(tmp_path, tmp_path.parent)
    assert (first.id, second.id) == ("0001_a", "0002_b")
    assert (first.summary, first.path) == ("Fill a field.", f"{tmp_path.name}/0001_a.py")
    assert first.digest == second.digest != first.model_copy(update={"source": GOOD + "\n"}).digest


def test_a_folder_without_any_is_no_mistake(tmp_path: Path) -> None:
    assert read(tmp_path / "migrations", tmp_path) == ()


@pytest.mark.parametrize(("name", "source", "message"), BAD, ids=[case[2] for case in BAD])
def test_bad_files_are_named(name: str, source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "0002_b.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / name).write_text(source, encoding="utf-8")
    with pytest.raises(DeclaredError) as error:
        read(tmp_path, tmp_path)
    assert message in str(error.value)
