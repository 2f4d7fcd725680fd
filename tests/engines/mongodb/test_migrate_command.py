"""`dbkeep migrate --engine mongodb` as it is typed, with the agent beside it in place of SSH."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dbkeep.cli import cli
from dbkeep.commands import agent_migrate, migrate
from dbkeep.commands.agent import agent_group
from dbkeep.errors import UsageError
from dbkeep.mongodb.connect import connect
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

FIRST = "0001_fill_last_message_at"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[MongoDBSettings]:
    with sandbox.start(folder / "command") as settings:
        yield settings


@pytest.fixture
def run(ours: MongoDBSettings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `dbkeep migrate WORD --engine mongodb`; an error is the result's exception, as the real main() gets it."""

    def call(_: Any, words: Sequence[str], request: dict[str, Any], **_more: Any) -> dict[str, Any]:
        done = CliRunner().invoke(agent_group, list(words), input=json.dumps(request))
        if done.exception:
            raise done.exception
        return dict(json.loads(done.stdout))

    monkeypatch.setattr(migrate, "read_environment", lambda _: SimpleNamespace(variables={}))
    monkeypatch.setattr(migrate, "engine_hosts", lambda _, names: [(names[0], SimpleNamespace(name="db1"))])
    monkeypatch.setattr(migrate, "call", call)
    monkeypatch.setattr(agent_migrate, "required_settings", lambda name: {"mongodb": ours}[name])
    return lambda word, *words: CliRunner().invoke(cli, ["migrate", word, "--engine", "mongodb", *words])


def test_what_apply_left_pending_goes_up(run: Run, ours: MongoDBSettings) -> None:
    with connect(ours) as connection:
        connection["chat"]["conversations"].insert_one({"created_at": datetime(2026, 1, 1, tzinfo=UTC)})
    pending = run("status")
    assert (pending.exit_code, bool(re.search(rf"{FIRST} +pending", pending.stdout))) == (1, True)
    done = run("up", "--json")
    assert done.exit_code == 0
    assert FIRST in [change["target"] for change in json.loads(done.stdout)["applied"]]
    assert run("status").exit_code == 0


def test_down_waits_until_it_is_allowed(run: Run) -> None:
    run("up")
    held = run("down")
    assert (held.exit_code, "held back until --allow-destructive" in held.stdout) == (1, True)
    assert run("status").exit_code == 0
    assert isinstance(run("up", "--to", "9_x").exception, UsageError)


def test_sql_is_of_postgresql_only(run: Run) -> None:
    assert run("sql").exit_code == 2
