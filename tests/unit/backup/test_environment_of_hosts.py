"""Points, plans and references of an environment whose engines are on different hosts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup.controller import points as controller_points
from dbkeep.backup.controller import references as controller_references
from dbkeep.backup.controller import sets as controller
from dbkeep.backup.controller.points import list_points, set_point
from dbkeep.backup.controller.references import check_references, references_or_reason
from dbkeep.backup.controller.restore import restore_plan
from dbkeep.backup.controller.sets import placed
from dbkeep.backup.restore.target import Target
from dbkeep.commands.restore import apart, parse_target
from dbkeep.environment import Environment, Host
from dbkeep.errors import DbkeepError, UsageError

START = datetime(2026, 11, 28, 8, tzinfo=UTC)
USERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(5)]


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def of_host(name: str, engine: str) -> Host:
    return Host(name, "198.18.0.1", "root", 22, None, (), frozenset([engine]), {})


@pytest.fixture
def environment() -> Environment:
    hosts = (of_host("a", "postgresql"), of_host("b", "mongodb"), of_host("c", "redis"))
    return Environment("e", Path("inventory/e"), hosts, {}, {})


class Agents:
    """Stands in for the agents: `answers` by word, each from the host's name and the request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.answers = answers
        for module in (controller, controller_points, controller_references):
            monkeypatch.setattr(module, "call", self.call)

    def call(self, host: Host, words: list[str], request: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.asked.append((host.name, words[-1], request))
        return dict(self.answers[words[-1].replace("-", "_")](host.name, request))


ENGINES = {"a": "postgresql", "b": "mongodb", "c": "redis"}


def record(host: str, seconds: float, places: list[str]) -> dict[str, Any]:
    fences = {ENGINES[host]: {"at": at(seconds), "name": "n"}}
    return {
        "name": "p",
        "host": host,
        "began_at": at(seconds - 0.01),
        "skew_seconds": 0.01,
        "fences": fences,
        "restorable_from": places,
    }


def test_all_hosts_set_a_point_at_one_moment_that_is_still_to_come(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"a": 0.0, "b": 0.2, "c": 0.1}
    agents = Agents(monkeypatch, mark=lambda host, _: {"point": record(host, late[host], [])})
    point = set_point(environment, "p")
    assert (point["engines"], point["complete"], point["skew_seconds"]) == (
        ["mongodb", "postgresql", "redis"],
        True,
        0.21,
    )
    moments = {request["at"] for _, _, request in agents.asked}
    assert len(moments) == 1
    assert datetime.fromisoformat(moments.pop()) > datetime.now(UTC)
    with pytest.raises(UsageError, match="is not a point's name"):
        set_point(environment, "../p")


def test_a_point_is_restorable_from_where_every_host_restores_it(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"a": ["local", "offsite"], "b": ["local", "offsite", "nas"], "c": ["offsite"]}
    damaged = {"c": ["points/q.c.json: damaged"]}
    Agents(
        monkeypatch,
        points=lambda host, _: {"points": [record(host, 0, places[host])], "all": 1, "errors": damaged.get(host, [])},
    )
    found = list_points(environment)
    assert [(one["name"], one["restorable_from"]) for one in found["points"]] == [("p", ["offsite"])]
    assert found["errors"] == damaged


def test_the_skew_of_a_restore_is_that_over_all_hosts(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"a": 0.0, "b": 2.0, "c": 1.0}
    agents = Agents(
        monkeypatch,
        plan=lambda host, _: {"parts": [{"engine": ENGINES[host]}], "began": at(late[host] - 1), "at": at(late[host])},
    )
    plan = restore_plan(environment, Target(point="p"))
    assert plan["skew_seconds"] == 3.0
    assert [row["host"] for row in plan["parts"]] == ["a", "b", "c"]
    assert {(request["point"], request["to"]) for _, _, request in agents.asked} == {("p", None)}


def test_ids_are_compared_a_page_at_a_time_when_the_engines_are_on_different_hosts(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"messages.sender_id": USERS, "sess:": USERS[3:]}

    def page(_: str, request: dict[str, Any]) -> dict[str, Any]:
        users = named.get(request["reference"], [])
        begin = int(request["after"] or 0)
        more = str(begin + 2) if begin + 2 < len(users) else None
        return {"users": [[user, 2, "doc"] for user in users[begin : begin + 2]], "after": more}

    agents = Agents(
        monkeypatch,
        named_users=page,
        missing_users=lambda _, request: {"missing": [user for user in request["ids"] if user in USERS[3:]]},
    )
    found = check_references(placed(environment))
    rows = {row["reference"]: row for row in found["references"]}
    sender = rows["messages.sender_id"]
    assert (sender["users"], sender["missing_users"], sender["dangling"]) == (5, 2, 4)
    assert sender["examples"] == [{"user": user, "document": "doc"} for user in USERS[3:]]
    assert rows["sess:"]["dangling"] == 4
    assert found["dangling"] == 8
    assert {host for host, word, _ in agents.asked if word == "missing-users"} == {"a"}
    assert {host for host, word, request in agents.asked if request.get("reference") == "sess:"} == {"c"}


def test_stores_that_cannot_be_compared_do_not_undo_a_restore(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> dict[str, Any]:
        raise DbkeepError("b: mongod is down")

    Agents(monkeypatch, named_users=down)
    found = references_or_reason(placed(environment))
    assert (found["dangling"], found["error"]) == (None, "b: mongod is down")


def test_a_restore_goes_to_one_thing() -> None:
    assert parse_target(None, None, None) is None
    assert parse_target("20261128T080000Z", None, None) == Target("20261128T080000Z")
    assert parse_target(None, "p", None) == Target(point="p")
    assert parse_target(None, None, "2026-01-28T09:00:00+01:00") == Target(to=datetime(2026, 1, 28, 8, tzinfo=UTC))
    with pytest.raises(UsageError, match="--set and --to: a restore goes to one of them"):
        parse_target("20261128T080000Z", None, "2026-01-28T09:00:00Z")
    with pytest.raises(UsageError, match="is no time"):
        parse_target(None, None, "yesterday")
    assert (apart(0.0069), apart(1.0)) == ("6.9 ms", "1 s")
