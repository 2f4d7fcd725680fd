"""Every kind of object: broken by hand, the plan names it, apply mends it, the plan is empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dbkeep import mongodb as engine
from dbkeep.mongodb.connect import Client
from dbkeep.plan import Risk
from dbkeep.settings import MongoDBSettings


class Break(NamedTuple):
    name: str
    commands: list[dict[str, Any]]
    kind: str
    target: str
    destructive: bool = False


BREAKS = [Break(**case) for case in yaml.safe_load(Path(__file__).with_name("breaks.yml").read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", BREAKS, ids=[case.name for case in BREAKS])
def test_break_is_named_and_mended(
    case: Break,
    settings: MongoDBSettings,
    declared: engine.Declared,
    passwords: dict[str, str],
    administrator: Client,
) -> None:
    for step in case.commands:
        administrator[step["db"]].command(step["command"])
    plan = engine.plan(settings, declared, passwords)
    try:
        assert (case.kind, case.target) in {(change.kind, change.target) for change in plan}
        if case.destructive:
            assert engine.apply(settings, declared, passwords) == ()
            left = engine.plan(settings, declared, passwords)
            assert [(c.kind, c.target, c.risk) for c in left] == [(case.kind, case.target, Risk.DESTRUCTIVE)]
    finally:
        engine.apply(settings, declared, passwords, allow_destructive=True)
    assert [(change.kind, change.target) for change in engine.plan(settings, declared, passwords)] == []


def test_other_databases_are_not_touched(
    settings: MongoDBSettings, declared: engine.Declared, passwords: dict[str, str], administrator: Client
) -> None:
    administrator["reporting"]["figures"].create_index("day")
    try:
        assert list(engine.plan(settings, declared, passwords)) == []
    finally:
        administrator.drop_database("reporting")
