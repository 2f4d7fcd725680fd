"""Every kind of object: broken by hand, the plan names it, apply mends it, the plan is empty."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dbkeep import mongodb as engine
from dbkeep.mongodb import models
from dbkeep.mongodb.connect import Client, address
from dbkeep.plan import ApplyError, Risk
from dbkeep.settings import MongoDBSettings

from . import test_collection_options


class Break(NamedTuple):
    """One way to break a `part` of the declared state by hand; `kind` and `target` are what the plan must name.

    A command is one for the server, or spoils the validator of a collection: what is `at` a place goes, or becomes
    `to`. `destructive` repairs remove something, so they wait for the flag; `applies` is how many it takes. `refused`
    ones no apply can repair: `mend` does it by hand, and apply makes again what that took away.
    """

    name: str
    part: str
    commands: list[dict[str, Any]]
    kind: str
    target: str
    destructive: bool = False
    applies: int = 1
    refused: bool = False
    mend: tuple[dict[str, Any], ...] = ()


BREAKS = [
    Break(**case)
    for path in sorted(Path(__file__).with_name("breaks").glob("*.yml"))
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))
]

# What is for the reader, and what other fields of the same table are about.
NO_STATE = {"Rule.why", "Index.query", "Role.purpose", "Parameter.why"}
TABLES = {"Collection.indexes", "Role.privileges", "Server.parameters", "Parameter.name"}


def run(client: Client, commands: Sequence[dict[str, Any]]) -> None:
    for step in commands:
        if "spoil" in step:
            spoil(client, step["spoil"], step["at"], step.get("to"))
        else:
            client[step["db"]].command(step["command"])


def spoil(client: Client, name: str, at: Sequence[Any], value: Any) -> None:
    (info,) = client["chat"].list_collections(filter={"name": name})
    validator = copy.deepcopy(info["options"]["validator"])
    place = validator
    for step in at[:-1]:
        place = place[step]
    if value is None:
        del place[at[-1]]
    else:
        place[at[-1]] = value
    client["chat"].command({"collMod": name, "validator": validator})


def test_every_part_of_the_declared_state_is_broken(declared: engine.Declared) -> None:
    kinds = (models.Collection, models.Rule, models.Capped, models.TimeSeries, models.Index, models.View, models.Role)
    more = (models.Privilege, models.User, models.Server, models.Parameter)
    parts = {f"{kind.__name__}.{name}" for kind in (*kinds, *more) for name in kind.model_fields}
    broken = {case.part for case in BREAKS} | {case.part for case in test_collection_options.BREAKS.values()}
    assert parts - broken == NO_STATE | TABLES
    assert {part.partition(" ")[2] for part in broken if part.startswith("undeclared ")} == {
        "collection", "view", "time series", "stored function", "index", "role", "user",
    }  # fmt: skip
    named = {case.target.partition(" ")[2] for case in BREAKS if case.kind == "parameter"}
    assert named == {parameter.name for parameter in declared.server.parameters}


@pytest.mark.parametrize("case", BREAKS, ids=[case.name for case in BREAKS])
def test_break_is_named_and_mended(
    case: Break,
    settings: MongoDBSettings,
    declared: engine.Declared,
    passwords: dict[str, str],
    administrator: Client,
) -> None:
    run(administrator, case.commands)
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
        run(administrator, case.mend)
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
