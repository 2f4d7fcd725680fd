"""The commands that the controller calls on a host, with what a person asked for."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from click.testing import CliRunner

from dbkeep.commands import agent, plan
from dbkeep.mongodb.connect import Client
from dbkeep.mongodb.models import Declared
from dbkeep.settings import MongoDBSettings

from .test_documents import GOOD


def ask(word: str, request: dict[str, Any]) -> Any:
    done = CliRunner().invoke(agent.agent_group, [word, "mongodb"], input=json.dumps(request), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_asked_for_reaches_the_engine(
    settings: MongoDBSettings,
    declared: Declared,
    passwords: dict[str, str],
    administrator: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent, "required_settings", lambda _: settings)
    request = {"declared": declared.model_dump(mode="json"), "secrets": passwords}
    messages = administrator["chat"]["messages"]
    messages.insert_one(copy.deepcopy(GOOD["messages"]) | {"content": 7}, bypass_document_validation=True)
    try:
        assert ask("plan", request)["changes"] == []
        found = ask("plan", request | plan._options("mongodb", {"documents": True, "warn": False}))
        assert [change["kind"] for change in found["changes"]] == ["documents"]

        administrator["chat"].command({"collMod": "messages", "validator": {}})
        wanted = request | plan._options("mongodb", {"warn": True, "search_seconds": 30})
        answer = ask("apply", wanted)
        assert [change["after"]["validationAction"] for change in answer["applied"]] == ["warn"]
        assert answer["held"] == []
    finally:
        messages.delete_many({})
        ask("apply", request)
    assert ask("plan", request)["changes"] == []


def test_other_engines_are_not_asked_for_what_only_mongodb_has() -> None:
    assert plan._options("redis", {"warn": True}) == {}
    assert plan._options("mongodb", {"warn": False, "search_seconds": None}) == {}
