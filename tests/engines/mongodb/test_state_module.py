"""The Ansible module that site.yml calls, with a real server: fresh, in check mode, converged, and with documents."""

from __future__ import annotations

import copy
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.models import Declared
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from .counting import states
from .test_documents import GOOD

ROOT = Path(__file__).parents[3]
FIRST = "0001_fill_last_message_at"


@dataclass
class Site:
    """Calls the module as a task does."""

    settings: MongoDBSettings
    declared: Declared
    passwords: dict[str, str]
    warnings: list[str] = field(default_factory=list)

    def run(self, *, check_mode: bool = False) -> dict[str, Any]:
        module = runpy.run_path(str(ROOT / "plugins/modules/dbkeep_state.py"))
        module["run"].__globals__["required_settings"] = lambda _: self.settings
        self.warnings.clear()
        params = {
            "engine": "mongodb",
            "declared": self.declared.model_dump(mode="json"),
            "secrets": self.passwords,
            "allow_destructive": False,
        }
        task = SimpleNamespace(params=params, check_mode=check_mode, warn=self.warnings.append)
        answer: dict[str, Any] = module["run"](task)
        return answer


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[MongoDBSettings]:
    with sandbox.start(folder / "site") as settings:
        yield settings


@pytest.fixture
def client(running: MongoDBSettings) -> Iterator[Client]:
    with connect(running) as connection:
        connection.drop_database("chat")
        yield connection


def kinds(answer: dict[str, Any]) -> list[str]:
    return [change["kind"] for change in answer["changes"]]


@pytest.mark.usefixtures("client")
def test_check_mode_shows_what_the_run_then_does_and_a_second_run_changes_nothing(
    running: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> None:
    site = Site(running, declared, passwords)
    shown = site.run(check_mode=True)
    assert shown["changed"]
    assert states(running, declared) == {FIRST: "pending"}
    made = site.run()
    assert made == shown
    assert (kinds(made)[-1], made["diff"][-1]["before"]) == ("migration", "")
    assert states(running, declared) == {FIRST: "applied"}
    for check_mode in (True, False):
        answer = site.run(check_mode=check_mode)
        assert (answer["changed"], answer["changes"], site.warnings) == (False, [], [])


def test_what_waits_for_a_migration_is_a_warning_in_check_mode_only(
    running: MongoDBSettings, client: Client, declared: Declared, passwords: dict[str, str]
) -> None:
    site = Site(running, declared, passwords)
    site.run()
    client["chat"].command({"collMod": "conversations", "validator": {}})
    old = {name: value for name, value in GOOD["conversations"].items() if name != "last_message_at"}
    client["chat"]["conversations"].insert_one(copy.deepcopy(old))
    client["chat"][RECORDS].drop()
    assert kinds(site.run(check_mode=True)) == ["migration"]
    (said,) = site.warnings
    assert said.startswith("validator chat.conversations: ")
    assert said.endswith(f": held back, it needs migration {FIRST} first")
    answer = site.run()
    assert (kinds(answer), answer["held"], site.warnings) == (["migration", "validator"], [], [])
    assert not site.run()["changed"]
