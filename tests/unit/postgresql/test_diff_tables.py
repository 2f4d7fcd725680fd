"""Differences inside tables, on values alone: what a real server cannot easily be brought into."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dbkeep.plan import Change, Risk
from dbkeep.postgresql.diff.tables import tables
from dbkeep.postgresql.shape import Part, Recorded, Shape, differences
from dbkeep.postgresql.shape.broken_rows import Broken
from dbkeep.postgresql.shape.tables import Tables

TABLE = Part({"kind": "r", "persistence": "p", "options": [], "parents": [], "children": []})
COLUMN = Part(
    {"type": "uuid", "collation": None, "generated": "", "identity": "", "not_null": True, "has_default": False},
    {"default": None},
)
USERS = {("table", ""): TABLE, ("column", "id"): COLUMN}


def changed(converged: Any, recorded: Shape | None, live: Shape, **more: Any) -> list[Change]:
    newest = converged.declared.migrations[-1].id
    found = Tables(live, Recorded(newest, 170000, recorded), more.pop("broken", {}))
    return list(tables(converged.declared, replace(converged.live, tables=found, **more)))


def test_a_table_that_is_gone_is_told_once(converged: Any) -> None:
    # objects.tables() tells it of a declared table when nothing is pending.
    assert changed(converged, {"chat.users": USERS}, {}) == []
    (pending,) = changed(converged, {"chat.users": USERS}, {}, migrations={})
    (undeclared,) = changed(converged, {"chat.other": USERS}, {})
    for change in (pending, undeclared):
        assert (change.kind, change.summary) == ("table", "missing")
        assert "restore it from a backup" in (change.refused or "")


def test_a_table_by_hand_in_the_place_of_a_declared_one_is_refused(converged: Any) -> None:
    (change,) = changed(converged, {}, {"chat.users": USERS})
    assert change.refused == "it is there and no applied migration made it: drop or rename it by hand"
    assert changed(converged, {}, {"chat.by_hand": USERS}) == []  # objects.undeclared() drops it


def test_lost_inheritance_and_another_kind_are_refused(converged: Any) -> None:
    for differing, message in (
        ({"parents": ["chat.base"]}, "no longer inherits as migrations made it (chat.base): mend it by hand"),
        ({"kind": "p"}, "a partitioned table and a plain one are no mend of each other"),
    ):
        wanted = {**USERS, ("table", ""): replace(TABLE, structure={**TABLE.structure, **differing})}
        (change,) = changed(converged, {"chat.users": wanted}, {"chat.users": USERS})
        assert change.refused == message


def test_the_gravest_risk_counts(converged: Any) -> None:
    have = {
        **USERS,
        ("table", ""): replace(TABLE, structure={**TABLE.structure, "persistence": "u", "children": ["o.c"]}),
    }
    (change,) = changed(converged, {"chat.users": USERS}, {"chat.users": have})
    assert change.risk is Risk.REWRITING
    assert change.statement == ('ALTER TABLE "chat"."users" SET LOGGED;\nALTER TABLE "o"."c" NO INHERIT "chat"."users"')


def test_rows_that_break_a_part_refuse_it(converged: Any) -> None:
    have = {**USERS, ("column", "id"): replace(COLUMN, structure={**COLUMN.structure, "not_null": False})}
    broken = {("chat.users", ("column", "id")): Broken(1, ("(0,1)",))}
    (change,) = changed(converged, {"chat.users": USERS}, {"chat.users": have}, broken=broken)
    assert change.refused == "1 row breaks it, such as (0,1): mend them first"
    assert changed(converged, {"chat.users": USERS}, {"chat.users": have})[0].refused is None


def test_what_a_version_prints_its_own_way_is_compared_on_request_only() -> None:
    wanted: Shape = {"chat.users": {("column", "id"): replace(COLUMN, printed={"default": "1"})}}
    have: Shape = {"chat.users": {("column", "id"): replace(COLUMN, printed={"default": "(1)"})}}
    assert list(differences(wanted, have)) == [("chat.users", ("column", "id"))]
    assert list(differences(wanted, have, printed=False)) == []
