"""Splitting SQL files."""

from __future__ import annotations

from pathlib import Path

from dbkeep.postgresql import source


def test_semicolons_in_quotes_and_comments_end_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.sql"
    path.write_text(
        "-- first; comment\nSELECT ';', \"a;b\";\n\n/* second;\n*/ SELECT $x$ ; $$ $x$,\n    'it''s';\n-- end;\n",
        encoding="utf-8",
    )
    found = list(source.statements(path))
    assert [statement.line for statement in found] == [2, 5]
    assert found[0].flat == "SELECT ';', \"a;b\""
    assert found[1].flat == "SELECT $x$ ; $$ $x$, 'it''s'"
    assert found[1].text == "SELECT $x$ ; $$ $x$,\n    'it''s'"


def test_an_empty_file_has_no_statement(tmp_path: Path) -> None:
    path = tmp_path / "x.sql"
    path.write_text("-- nothing\n", encoding="utf-8")
    assert list(source.statements(path)) == []
