"""Throw-away servers: what they listen on, what they keep, and how they fail."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dbkeep import mongodb as engine
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import connect
from dbkeep.mongodb.models import Declared
from dbkeep.sandbox import mongodb as sandbox


def test_on_a_socket_it_listens_on_no_port_and_keeps_its_data(folder: Path) -> None:
    for expected in (1, 2):
        with sandbox.start(folder / "socket", unix_socket=True) as settings:
            listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
            assert f":{settings.port} " not in listening
            assert (folder / "socket").stat().st_mode & 0o777 == 0o700
            with connect(settings) as connection, connection.start_session() as session, session.start_transaction():
                connection["chat"]["t"].insert_one({"a": 1}, session=session)
                assert connection["chat"]["t"].count_documents({}, session=session) == expected


def test_why_it_does_not_start_is_one_line(folder: Path) -> None:
    with (
        pytest.raises(DbkeepError, match=r"^mongod ended at once with exit code \d+: [^\n]*nonsense[^\n]*$"),
        sandbox.start(folder / "fails", parameters={"nonsense": "1"}),
    ):
        pytest.fail("it started")


def test_without_any_mongod_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WHEEL", "no-such-package")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError, match="no mongod: install mongodb-org-server, or the Python package"):
        sandbox.find_mongod()


def test_what_is_declared_of_parameters_can_stand_in_the_servers_file(
    folder: Path, declared: Declared, passwords: dict[str, str]
) -> None:
    values = {parameter.name: json.dumps(parameter.value) for parameter in declared.server.parameters}
    with sandbox.start(folder / "declared", parameters=values) as settings:
        kinds = {change.kind for change in engine.plan(settings, declared, passwords)}
    assert kinds == {"collection", "index", "view", "role", "user", "migration"}
