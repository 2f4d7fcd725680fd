"""Every kind of object: broken by hand, the plan names it, apply mends it, the plan is empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dbkeep import mongodb as engine
from dbkeep.mongodb.connect import Client, address
from dbkeep.plan import ApplyError, Risk
from dbkeep.settings import MongoDBSettings


class Break(NamedTuple):
    name: str
    commands: list[dict[str, Any]]
    kind: str
    target: str
    destructive: bool = False
    applies: int = 1
    refused: bool = False
    mend: tuple[dict[str, Any], ...] = ()


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
    broken = (case.kind, case.target.format(server=address(settings)))
    plan = engine.plan(settings, declared, passwords)
    try:
        assert broken in {(change.kind, change.target) for change in plan}
        if case.refused:
            with pytest.raises(ApplyError, match=rf"^mongodb {case.kind} {case.target}: "):
                engine.apply(settings, declared, passwords, allow_destructive=True)
        if case.destructive:
            assert engine.apply(settings, declared, passwords) == ()
            left = engine.plan(settings, declared, passwords)
            assert [(c.kind, c.target, c.risk) for c in left] == [(*broken, Risk.DESTRUCTIVE)]
        for _ in range(case.applies - 1):
            engine.apply(settings, declared, passwords, allow_destructive=True)
            left = engine.plan(settings, declared, passwords)
            assert [(change.kind, change.target) for change in left] == [broken]
    finally:
        for step in case.mend:
            administrator[step["db"]].command(step["command"])
        engine.apply(settings, declared, passwords, allow_destructive=True)
        left = engine.plan(settings, declared, passwords)
        if left:
            engine.apply(settings, declared, passwords, allow_destructive=True)
    assert [(change.kind, change.target) for change in left] == []


def test_other_databases_are_not_touched(
    settings: MongoDBSettings, declared: engine.Declared, passwords: dict[str, str], administrator: Client
) -> None:
    administrator["reporting"]["figures"].create_index("day")
    try:
        assert list(engine.plan(settings, declared, passwords)) == []
    finally:
        administrator.drop_database("reporting")
